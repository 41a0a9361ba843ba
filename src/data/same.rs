//! Images of the same content, in one dataset or in two: what is trained on and evaluated, too, makes numbers better than the model is.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pipe_core::NodeId;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Files of equal size are told apart by so many bytes out of their middle, before any is read as a whole.
const PROBE: u64 = 4096;

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
    let mut by_size: HashMap<u64, Vec<(&NodeId, &PathBuf)>> = HashMap::new();
    for (id, files) in datasets {
        for file in files {
            // One that is missing is an error of its own, when it is read.
            let Ok(metadata) = std::fs::metadata(file) else { continue };
            by_size.entry(metadata.len()).or_default().push((id, file));
        }
    }
    let mut pairs: BTreeMap<[&NodeId; 2], Vec<[PathBuf; 2]>> = BTreeMap::new();
    for (size, files) in by_size.into_iter().filter(|(_, files)| files.len() > 1) {
        for alike in groups(files, |file| probe(file, size))?.into_iter().filter(|files| files.len() > 1) {
            for equal in groups(alike, digest)?.into_iter().filter(|files| files.len() > 1) {
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

/// Files by a key of their content.
fn groups<'a, K: std::hash::Hash + Eq>(files: Files<'a>, key: impl Fn(&Path) -> Result<K>) -> Result<Vec<Files<'a>>> {
    let mut groups: HashMap<K, Files<'a>> = HashMap::new();
    for (id, file) in files {
        let key = key(file).with_context(|| format!("cannot read {}", file.display()))?;
        groups.entry(key).or_default().push((id, file));
    }
    Ok(groups.into_values().collect())
}

fn probe(file: &Path, size: u64) -> Result<Vec<u8>> {
    let mut file = pipe_vocab::files::open(file)?;
    file.seek(SeekFrom::Start(size.saturating_sub(PROBE) / 2))?;
    let mut bytes = Vec::new();
    file.take(PROBE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn digest(file: &Path) -> Result<[u8; 32]> {
    let mut file: File = pipe_vocab::files::open(file)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash)?;
    Ok(hash.finalize().into())
}
