//! What cargo says about the workspace.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell::{plain_cargo, words};

/// `cargo metadata` of the workspace in `root`, without looking for the dependencies' own dependencies.
pub(crate) fn read(root: &Path) -> Result<Value> {
    let mut command = plain_cargo(root);
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = command.output().with_context(|| format!("cannot run {}", words(&command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", words(&command), String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("read what cargo metadata says")
}

/// Where cargo puts what it builds; `CARGO_TARGET_DIR` and settings of the user's own count.
pub(crate) fn target(root: &Path) -> Result<PathBuf> {
    let metadata = read(root)?;
    Ok(metadata["target_directory"].as_str().context("cargo metadata names no target directory")?.into())
}
