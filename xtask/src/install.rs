//! `cargo xtask install`: the program on the PATH.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata::target;
use crate::setup::{Options, setup};
use crate::shell::{cargo, must, step};

/// Copies the release build to `PREFIX/bin/pipe`. It finds libtorch by the real path it was built with, so that must stay
/// where it is; the checkout need not.
pub(crate) fn install(root: &Path, arguments: &[String]) -> Result<()> {
    let prefix = match arguments {
        [] => PathBuf::from(env::var_os("HOME").context("HOME is not set: give --prefix DIR")?).join(".local"),
        [flag, dir] if flag == "--prefix" => std::path::absolute(dir)?,
        _ => bail!("`install` takes --prefix DIR or nothing"),
    };
    let libtorch = setup(root, &Options::default())?;
    step("build");
    must(cargo(root, &libtorch).args(["build", "--release", "--bin", "pipe"]))?;
    let bin = prefix.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("make {}", bin.display()))?;
    let (built, fresh, pipe) = (target(root)?.join("release/pipe"), bin.join(".pipe.new"), bin.join("pipe"));
    // A running program cannot be overwritten, but its name can be given to another file.
    fs::copy(&built, &fresh).with_context(|| format!("copy {} to {}", built.display(), bin.display()))?;
    fs::rename(&fresh, &pipe).with_context(|| format!("write {}", pipe.display()))?;
    must(Command::new(&pipe).arg("--version").env_remove("LD_LIBRARY_PATH"))
        .context("the installed program does not start")?;
    println!("installed {} (it uses the libraries in {})", pipe.display(), libtorch.display());
    if !env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir == bin)) {
        println!("note: {} is not in your PATH", bin.display());
    }
    Ok(())
}
