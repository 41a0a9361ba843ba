//! `cargo xtask soak elastic`: machines under torchrun's own agents, of which one is killed.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::metadata::target;
use crate::setup::{Options, setup};
use crate::shell::{cargo, must};
use crate::suites::NO_FEATURES;

/// Builds the program and lets the script do the rest.
pub(crate) fn elastic(root: &Path, arguments: &[String]) -> Result<()> {
    let python = match arguments {
        [flag, python] if flag == "--python" => python,
        _ => bail!("`soak elastic` takes --python EXE: a Python with torch"),
    };
    let libtorch = setup(root, &Options::default())?;
    must(cargo(root, &libtorch).args(["build", "--workspace", NO_FEATURES, "--bin", "pipe"]))?;
    let mut script = Command::new(python);
    script.arg(root.join("tests/parity/ranks/elastic.py")).arg(target(root)?.join("debug/pipe"));
    must(script.env("PIPE_CACHE", target(root)?.join("tmp/cache")))
}
