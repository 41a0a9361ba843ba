//! `cargo xtask soak gpu-suite`: the script for a machine with a GPU, tried on the stand-in accelerator.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::setup::{Options, setup};
use crate::shell::{cargo, must};
use crate::suites::NO_FEATURES;

/// All but what needs a real GPU, or only times.
const PARTS: &str = "mission,load,parity,deterministic,resume,reload,fits,precision,profile";

/// Builds the program and the stand-in, and runs the script.
pub(crate) fn gpu_suite(root: &Path, arguments: &[String]) -> Result<()> {
    let (mut python, mut coco, mut only) = (None, None, PARTS.to_owned());
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let value = rest.next().with_context(|| format!("{flag} takes a value"))?;
        match flag.as_str() {
            "--python" => python = Some(value.clone()),
            "--coco" => coco = Some(value.clone()),
            "--only" => only = value.clone(),
            _ => bail!("`soak gpu-suite` has no {flag}"),
        }
    }
    let python = python.context("--python EXE: a Python with torch 2.11 and torchvision")?;
    let libtorch = setup(root, &Options::default())?;
    // The tests of the stand-in build it beside the program.
    must(cargo(root, &libtorch).args(["test", "--workspace", NO_FEATURES, "--test", "stand_in", "--no-run"]))?;
    let debug = root.join("target/debug");
    let library = newest(&debug.join("build"))?;
    let mut script = Command::new(python);
    script.current_dir(root).arg("scripts/gpu_suite.py").args(["--small", "--device", "auto", "--only", &only]);
    script.arg("--pipe").arg(debug.join("pipe")).arg("--stand-in").arg(library);
    if let Some(coco) = coco {
        script.args(["--coco", &coco]);
    }
    must(&mut script)
}

/// The library of the stand-in that was built last.
fn newest(build: &Path) -> Result<PathBuf> {
    let folders = std::fs::read_dir(build).with_context(|| build.display().to_string())?;
    let libraries = folders.filter_map(|folder| {
        let library = folder.ok()?.path().join("out/libpipe_stand_in.so");
        Some((library.metadata().ok()?.modified().unwrap_or(SystemTime::UNIX_EPOCH), library))
    });
    libraries.max().map(|(_, library)| library).context("the stand-in was not built")
}
