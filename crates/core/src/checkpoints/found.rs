//! The folder of a checkpoint, as readers see it: its name, whether it is whole, the newest and the best of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use pipe_vocab::{BestCheckpoint, NodeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ABANDONED;

/// The layout of checkpoints; a reader refuses newer ones.
pub const FORMAT: u32 = 2;
/// The file that makes a checkpoint a whole one.
pub const COMPLETE: &str = "complete.json";
/// The file, beside the checkpoints, that names the best ones.
pub const BEST: &str = "best.json";

/// `complete.json`: of which files a checkpoint is made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Complete {
    /// The layout: [`FORMAT`].
    pub format: u32,
    /// The step at which it was made.
    pub step: u64,
    /// Its other files.
    pub files: BTreeMap<String, Sum>,
}

/// By what a file is known again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    bytes: u64,
    crc32: String,
}

impl Sum {
    /// Of a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: &Path) -> Result<Sum> {
        let read = || -> std::io::Result<Sum> {
            let mut file = fs::File::open(path)?;
            let mut hasher = crc32fast::Hasher::new();
            let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
            loop {
                let read = std::io::Read::read(&mut file, &mut buffer)?;
                if read == 0 {
                    return Ok(Sum { bytes, crc32: format!("{:08x}", hasher.finalize()) });
                }
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
        };
        read().with_context(|| format!("cannot read {}", path.display()))
    }
}

/// The name of a model's weights inside a checkpoint: `model.<name>.safetensors`.
pub fn model_file(id: &NodeId) -> String {
    format!("model.{}.safetensors", id.name)
}

/// A hidden name beside `path` that belongs to this process.
pub fn aside(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{what}{}", std::process::id()))
}

/// Removes what killed processes left half written or half removed; what one had put aside for a new one of the same name,
/// which it then did not finish, gets its name back.
///
/// # Errors
/// When a folder cannot be removed or renamed.
pub fn clear_leftovers(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some((name, what, process)) = leftover(&path) else { continue };
        let gone = Path::new("/proc/self").exists() && !Path::new("/proc").join(process.to_string()).exists();
        if process != std::process::id() && !gone {
            continue;
        }
        let target = folder.join(name);
        let cleared = match what {
            "old" if !target.exists() && read_complete(&path).is_ok() => fs::rename(&path, &target),
            _ => fs::remove_dir_all(&path),
        };
        cleared.with_context(|| format!("cannot clear away the leftover folder {}", path.display()))?;
    }
    Ok(())
}

/// The name, the kind and the process of a hidden folder that [`aside`] named.
fn leftover(path: &Path) -> Option<(String, &'static str, u32)> {
    let hidden = path.file_name()?.to_str()?.strip_prefix('.')?;
    let (name, rest) = hidden.rsplit_once('.')?;
    let what = ["tmp", "old"].into_iter().find(|what| rest.starts_with(what))?;
    Some((name.to_owned(), what, rest[what.len()..].parse().ok()?))
}

fn read_complete(folder: &Path) -> Result<Complete> {
    let text = fs::read(folder.join(COMPLETE)).with_context(|| {
        let old = if folder.join("state.json").exists() { " (one of an earlier pipe, or incomplete)" } else { "" };
        format!("{} is not a checkpoint that can be resumed{old}: it has no readable {COMPLETE}", folder.display())
    })?;
    let damaged = || format!("{}/{COMPLETE} is damaged", folder.display());
    let value: serde_json::Value = serde_json::from_slice(&text).with_context(damaged)?;
    let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or_default();
    if format > u64::from(FORMAT) {
        bail!("{} was written by a newer pipe (format {format}); this one reads {FORMAT}", folder.display());
    }
    serde_json::from_value(value).with_context(damaged)
}

/// What a checkpoint says of itself, after all its files were found to be what was written.
///
/// # Errors
/// When one of them is missing, or not what was written.
pub fn verified(folder: &Path) -> Result<Complete> {
    let complete = read_complete(folder)?;
    for (name, written) in &complete.files {
        let path = folder.join(name);
        ensure!(!name.contains(['/', '\\']) && name != "..", "{}/{COMPLETE} names {name:?}", folder.display());
        ensure!(path.exists(), "{} is incomplete: {name} is missing", folder.display());
        let found = Sum::of(&path)?;
        ensure!(
            found.bytes == written.bytes,
            "{} is damaged: it has {} bytes, {} were written",
            path.display(),
            found.bytes,
            written.bytes
        );
        ensure!(found == *written, "{} is damaged: its content is not what was written (CRC-32)", path.display());
    }
    Ok(complete)
}

/// The newest whole checkpoint of a run's folder. Damaged ones are named and passed over.
pub fn newest(run_folder: &Path) -> Option<PathBuf> {
    newest_of(run_folder, |_, _| true)
}

/// As [`newest`], of those that are `wanted`: the folder and the step at which it was made.
pub fn newest_of(run_folder: &Path, wanted: impl Fn(&Path, u64) -> bool) -> Option<PathBuf> {
    let folder = run_folder.join("checkpoints");
    // One that was about to be replaced has its name again; in a folder that may not be changed all stays as it is.
    let _ = clear_leftovers(&folder);
    let entries = fs::read_dir(&folder).ok()?;
    let shown = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        path.is_dir() && !name.starts_with('.') && !name.ends_with(ABANDONED)
    });
    let time = |path: &Path| fs::metadata(path.join(COMPLETE)).and_then(|data| data.modified()).ok();
    let shown = shown.map(|path| (step_of(&path), time(&path), path));
    // One without a step is not whole, which is said below.
    let mut all: Vec<_> = shown.filter(|(step, _, path)| step.is_none_or(|step| wanted(path, step))).collect();
    all.sort();
    all.into_iter().rev().map(|(_, _, path)| path).find(|path| match verified(path) {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!("{error:#}; it is passed over");
            false
        }
    })
}

/// The step at which a checkpoint was made; `None` when it is not a whole one.
pub fn step_of(checkpoint: &Path) -> Option<u64> {
    read_complete(checkpoint).ok().map(|complete| complete.step)
}

/// The best checkpoint of a run that its `best.json` names, if it is whole.
pub fn best(run_folder: &Path) -> Option<PathBuf> {
    let BestCheckpoint { path, .. } = noted(&run_folder.join("checkpoints")).into_iter().next()?;
    match verified(&path) {
        Ok(_) => Some(path),
        Err(error) => {
            tracing::warn!("{error:#}; it is passed over");
            None
        }
    }
}

/// The best checkpoints and weights of a run, one a monitored value, as noted: they are not looked at.
pub fn bests(run_folder: &Path) -> Vec<BestCheckpoint> {
    ["checkpoints", "weights"].iter().flat_map(|name| noted(&run_folder.join(name))).collect()
}

/// What `best.json` in a folder names.
fn noted(folder: &Path) -> Vec<BestCheckpoint> {
    let text = fs::read(folder.join(BEST)).unwrap_or_default();
    let file: Value = serde_json::from_slice(&text).unwrap_or_default();
    let of = |best: &Value| {
        let path = folder.join(best["name"].as_str().filter(|name| is_plain(name))?);
        let monitor = serde_json::from_value(best["monitor"].clone()).ok()?;
        Some(BestCheckpoint { monitor, value: best["value"].as_f64()?, step: best["step"].as_u64()?, path })
    };
    file["best"].as_array().into_iter().flatten().filter_map(of).collect()
}

/// Whether a name from a file leads to something in the folder itself.
fn is_plain(name: &str) -> bool {
    matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)])
}

/// The file of a model's weights that a path means: itself; of a checkpoint's folder, the model's file; of a run's folder, that
/// of its best checkpoint, or of the newest where none was judged. `RUN/best` and `RUN/latest` choose.
///
/// # Errors
/// When there is none of this model.
pub fn weights_file(path: &Path, model: &NodeId) -> Result<PathBuf> {
    let chosen = path.file_name().and_then(|name| name.to_str()).filter(|name| matches!(*name, "best" | "latest"));
    if let (Some(chosen), Some(run), false) = (chosen, path.parent().filter(|run| is_run(run)), path.exists()) {
        let found = if chosen == "best" { best(run) } else { newest(run) };
        let found = found.with_context(|| format!("{} has no {chosen} checkpoint", run.display()))?;
        return model_in(&found, model);
    }
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    if !is_run(path) {
        return model_in(path, model);
    }
    let found = best(path).or_else(|| newest(path));
    model_in(&found.with_context(|| format!("{} has no whole checkpoint", path.display()))?, model)
}

fn is_run(folder: &Path) -> bool {
    folder.join("checkpoints").is_dir()
}

/// The weights of a model in a folder of weights: under its own name, or the only ones that there are.
fn model_in(folder: &Path, model: &NodeId) -> Result<PathBuf> {
    let own = folder.join(model_file(model));
    if own.exists() {
        return Ok(own);
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("model.") && name.ends_with(".safetensors")).collect();
    names.sort();
    match names.as_slice() {
        [only] => Ok(folder.join(only)),
        [] => bail!("{} is the folder of no run, and holds no weights", folder.display()),
        _ => bail!(
            "{} has no {}; it has {}: name one of these files",
            folder.display(),
            model_file(model),
            names.join(", ")
        ),
    }
}
