//! Feeds damaged and hostile files to every reader of pipe: `cargo xtask soak fuzz --minutes N`.
//!
//! - [`targets`]: the readers, each a function of bytes; [`run_folder`]: a run's folder
//! - [`mutate`]: new inputs out of known ones
//! - [`coverage`]: which code an input reached, where the build counts it
//! - [`worker`]: the loop of one process, which may die of what it finds
//! - [`watch`]: starts workers within limits of memory and time, and keeps what killed them
//!
//! An input is a finding when a reader panics, aborts, takes more than a gibibyte or more than ten seconds, or says something
//! that could steer a terminal. Damage to the heap shows late: then the input at fault is one before the one kept, and the code
//! of torchvision's decoders is not counted, so that images are changed blindly. `corpus/` holds inputs for each target, made by `make_corpus.py`, and those of findings that
//! were mended; an ordinary test replays them.

pub mod coverage;
pub mod mutate;
pub mod run_folder;
pub mod targets;
pub mod watch;
pub mod worker;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The inputs in a folder, in the order of their names; none where there is no such folder.
///
/// # Errors
/// When one cannot be read.
pub fn inputs(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path, bytes))
    };
    paths.into_iter().map(read).collect()
}

/// Where the inputs of a target lie in the repository.
pub fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}
