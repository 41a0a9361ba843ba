//! `cargo xtask soak trackers`: the trackers' sinks against a real MLflow server and ClearML's own importer.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::metadata::target;
use crate::setup::{Options, setup};
use crate::shell::{cargo, must};

/// Builds the program and lets the script do the rest.
pub(crate) fn trackers(root: &Path, arguments: &[String]) -> Result<()> {
    let [flag, python] = arguments else {
        bail!("`soak trackers` takes --python EXE: a Python with mlflow and clearml")
    };
    if flag != "--python" {
        bail!("--python EXE: a Python with mlflow and clearml");
    }
    let libtorch = setup(root, &Options::default())?;
    must(cargo(root, &libtorch).args(["build", "--bin", "pipe"]))?;
    let mut script = Command::new(python);
    script.arg(root.join("tests/parity/trackers/soak.py")).arg(target(root)?.join("debug/pipe"));
    must(script.env("PIPE_CACHE", target(root)?.join("tmp/cache")))
}
