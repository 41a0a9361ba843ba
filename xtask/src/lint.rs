//! Clippy as the compiler of a build: what it looks at it compiles, too, which saves a pass over the whole workspace.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::metadata::target;

/// When clippy looks at the code.
#[derive(Clone)]
pub(crate) enum Lint {
    /// Before the build: what is built already is not compiled again, and only what is compiled is looked at.
    Before,
    /// As the build's compiler, through this program, where nothing is built yet.
    Building(PathBuf),
}

impl Lint {
    /// As suits what is built.
    pub(crate) fn of(root: &Path) -> Result<Lint> {
        let target = target(root)?;
        let built = fs::read_dir(target.join("debug/.fingerprint")).into_iter().flatten().flatten();
        if built.into_iter().any(|package| package.file_name().to_string_lossy().starts_with("pipe-")) {
            return Ok(Lint::Before);
        }
        // A copy: the build makes this program anew.
        let wrapper = target.join("lint");
        let own = std::env::current_exe().context("the program does not find itself")?;
        fs::copy(&own, &wrapper).with_context(|| format!("copy {} to {}", own.display(), wrapper.display()))?;
        Ok(Lint::Building(wrapper))
    }

    /// In the surroundings of a cargo that builds.
    pub(crate) fn tell(&self, command: &mut Command) {
        if let Lint::Building(wrapper) = self {
            command.env("RUSTC_WRAPPER", wrapper);
        }
    }
}

/// The arguments that cargo gives this program as the wrapper of a compiler.
pub(crate) fn compiling() -> Option<Vec<OsString>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let is_compiler = |first: &OsString| Path::new(first).file_stem().is_some_and(|stem| stem == "rustc");
    arguments.first().is_some_and(is_compiler).then_some(arguments)
}

/// Compiles: the workspace's own crates with clippy, whose warnings are errors; all others as they would be. The lints are no part of
/// what cargo knows of the build, so that later ones without clippy take it as it is.
pub(crate) fn compile(arguments: &[OsString]) -> ExitCode {
    let (compiler, rest) = arguments.split_first().unwrap_or_else(|| unreachable!("there is a first, see `compiling`"));
    let mut command = match std::env::var_os("CARGO_PRIMARY_PACKAGE") {
        Some(_) => {
            let mut clippy = Command::new("clippy-driver");
            clippy.arg(compiler).args(rest).args(["--deny", "warnings"]);
            clippy
        }
        None => {
            let mut plain = Command::new(compiler);
            plain.args(rest);
            plain
        }
    };
    eprintln!("error: cannot run the compiler: {}", command.exec());
    ExitCode::FAILURE
}
