//! Where runs are stored: `<root>/<pipeline>/<time>`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::checkpoint;

/// A new folder for a run of the pipeline `name` under `root`: `<root>/<name>/<date>_<time>`, counted up where it is taken.
///
/// # Errors
/// When the folder cannot be created.
pub fn new_folder(root: &Path, name: &str) -> Result<PathBuf> {
    let base = root.join(name);
    std::fs::create_dir_all(&base).with_context(|| format!("cannot create {}", base.display()))?;
    let stamp = stamp(Timestamp::now());
    for attempt in 0u32.. {
        let candidate = base.join(if attempt == 0 { stamp.clone() } else { format!("{stamp}_{attempt}") });
        match std::fs::create_dir(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", candidate.display())),
        }
    }
    unreachable!("the loop ends only by returning")
}

/// `20261123_184500`, in UTC.
fn stamp(time: Timestamp) -> String {
    time.strftime("%Y%m%d_%H%M%S").to_string()
}

/// The latest run's folder under `root` for the pipeline `name`.
pub fn latest_folder(root: &Path, name: &str) -> Option<PathBuf> {
    let runs = std::fs::read_dir(root.join(name)).ok()?;
    runs.flatten().map(|entry| entry.path()).filter(|path| checkpoint::newest(path).is_some()).max()
}
