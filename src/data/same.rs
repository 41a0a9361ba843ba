//! Images of the same content, in one dataset or in two: what is trained on and evaluated, too, makes numbers better than the model is.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pipe_core::NodeId;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Files of equal size are told apart by so many bytes out of their middle, before any is read as a whole.
const PROBE: u64 = 4096;

/// Threads that read.
const READERS: usize = 16;

/// Examples that are given.
const EXAMPLES: usize = 3;

/// Images of the second dataset that have an equal in the first, or twice in one.
pub(super) struct Same {
    of: [NodeId; 2],
    count: usize,
    /// Of each pair, one file of either dataset.
    examples: Vec<[PathBuf; 2]>,
}

impl Display for Same {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = &self.of;
        match first == second {
            true => write!(f, "{} images of {first} are there twice", self.count)?,
            false => write!(f, "{} images of {second} have the same content as images of {first}", self.count)?,
        }
        let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pairs: Vec<String> = self.examples.iter().map(|[a, b]| format!("{} = {}", name(a), name(b))).collect();
        write!(f, ": {}{}", pairs.join(", "), if self.count > pairs.len() { ", …" } else { "" })
    }
}

impl Same {
    pub(super) fn json(&self) -> Value {
        json!({ "datasets": self.of.each_ref().map(ToString::to_string), "images": self.count, "examples": self.examples })
    }
}

/// Finds images of the same content. Files that are read from several datasets are told once by `pipe check --data`; here they count as
/// equal, too.
///
/// # Errors
/// A file cannot be read.
pub(super) fn find<'a>(datasets: impl Iterator<Item = (&'a NodeId, &'a [PathBuf])>) -> Result<Vec<Same>> {
    let all: Files<'_> = datasets.flat_map(|(id, files)| files.iter().map(move |file| (id, file))).collect();
    // One that is missing is an error of its own, when it is read.
    let size = |file: &Path| Ok(std::fs::metadata(file).map(|metadata| metadata.len()).ok());
    let mut pairs: BTreeMap<[&NodeId; 2], Vec<[PathBuf; 2]>> = BTreeMap::new();
    let sizes = groups(vec![all], size)?.into_iter().filter(|(size, _)| size.is_some());
    let probes = groups(sizes.map(|(_, files)| files).collect(), probe)?;
    let equal = groups(probes.into_iter().map(|(_, files)| files).collect(), digest)?;
    for (_, equal) in equal {
        for (index, (id, file)) in equal.iter().enumerate().skip(1) {
            // The first of each other dataset, or one before in its own.
            let mut told: Vec<&NodeId> = Vec::new();
            for (other, twin) in &equal[..index] {
                if !told.contains(other) {
                    told.push(other);
                    pairs.entry([*other, *id]).or_default().push([(*twin).clone(), (*file).clone()]);
                }
            }
        }
    }
    let found = pairs.into_iter().map(|([first, second], mut all)| {
        all.sort();
        let count = all.len();
        all.truncate(EXAMPLES);
        Same { of: [first.clone(), second.clone()], count, examples: all }
    });
    Ok(found.collect())
}

type Files<'a> = Vec<(&'a NodeId, &'a PathBuf)>;

/// Those of each group that have the same key, where there are several. Keys are found in parallel: most of the time goes in waiting for
/// the disk.
fn groups<'a, K: std::hash::Hash + Eq + Send>(
    alike: Vec<Files<'a>>,
    key: impl Fn(&Path) -> Result<K> + Sync,
) -> Result<Vec<(K, Files<'a>)>> {
    let all: Vec<(usize, (&NodeId, &PathBuf))> = alike
        .into_iter()
        .enumerate()
        .flat_map(|(group, files)| files.into_iter().map(move |file| (group, file)))
        .collect();
    let keys = |part: &[(usize, (&NodeId, &PathBuf))]| -> Result<Vec<K>> {
        let key = |(_, (_, file)): &(usize, (&NodeId, &PathBuf))| {
            key(file).with_context(|| format!("cannot read {}", file.display()))
        };
        part.iter().map(key).collect()
    };
    let each = all.len().div_ceil(READERS).max(1);
    let keys: Vec<K> = std::thread::scope(|scope| {
        let readers: Vec<_> = all.chunks(each).map(|part| scope.spawn(|| keys(part))).collect();
        let parts = readers.into_iter().map(|reader| reader.join().unwrap_or_else(|_| bail!("a reader broke down")));
        parts.collect::<Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    let mut groups: HashMap<(usize, K), Files<'a>> = HashMap::new();
    for ((group, file), key) in all.into_iter().zip(keys) {
        groups.entry((group, key)).or_default().push(file);
    }
    Ok(groups.into_iter().filter(|(_, files)| files.len() > 1).map(|((_, key), files)| (key, files)).collect())
}

/// A hash of what is in the middle of a file.
fn probe(file: &Path) -> Result<[u8; 32]> {
    let mut file = pipe_vocab::files::open(file)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(PROBE) / 2))?;
    let mut bytes = Vec::new();
    file.take(PROBE).read_to_end(&mut bytes)?;
    Ok(Sha256::digest(&bytes).into())
}

/// A hash of a file.
fn digest(file: &Path) -> Result<[u8; 32]> {
    let mut file: File = pipe_vocab::files::open(file)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash)?;
    Ok(hash.finalize().into())
}
