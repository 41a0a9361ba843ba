//! Builds `pipe-fuzz` with counters of the code that an input reaches, and runs it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::metadata::target;
use crate::setup::{Options, setup};
use crate::shell::{cargo, must, step};

/// LLVM's counters of edges, which stable rustc can be told to put in; the crate reads them (`fuzz/src/coverage.rs`).
const COUNTERS: &str = r#"["-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=3", "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters"]"#;
/// Each worker starts libtorch: a target needs this much time at least.
const LEAST_SECONDS: u64 = 10;
/// The number of targets in `pipe-fuzz`.
const TARGETS: u64 = 10;

pub(super) fn fuzz(root: &Path, arguments: &[String]) -> Result<()> {
    let (minutes, targets) = match arguments {
        [flag, minutes, targets @ ..] if flag == "--minutes" => {
            (minutes.parse::<u64>().context("`--minutes` takes a whole number")?, targets)
        }
        targets => (10, targets),
    };
    ensure!(!targets.iter().any(|name| name.starts_with('-')), "`soak fuzz` takes --minutes N and names of targets");
    let libtorch = setup(root, &Options::default())?;
    step("build, counting the code that runs");
    let folder = target(root)?.join("fuzz");
    let machine = machine()?;
    let mut build = cargo(root, &libtorch);
    // Naming the machine keeps the counters out of build scripts and macros; they have a folder of their own.
    build.args(["build", "--quiet", "--package", "pipe-fuzz", "--target", &machine, "--target-dir"]).arg(&folder);
    build.arg("--config").arg(format!("target.{machine}.rustflags = {COUNTERS}"));
    must(&mut build)?;
    step("fuzz");
    let shared = if targets.is_empty() { TARGETS } else { targets.len() as u64 };
    let seconds = (minutes * 60 / shared).max(LEAST_SECONDS);
    let mut run = Command::new("nice");
    run.arg(folder.join(&machine).join("debug/pipe-fuzz")).arg(seconds.to_string()).arg(&folder).args(targets);
    must(run.current_dir(root))
}

/// The machine that rustc builds for by itself.
fn machine() -> Result<String> {
    let said = Command::new("rustc").args(["--print", "host-tuple"]).output().context("cannot run rustc")?;
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}
