//! Commands that xtask runs, and where things of the checkout are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The checkout.
pub(crate) fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The variable of this run goes first: the checkout may have moved since the build.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| manifest.to_path_buf(), PathBuf::from);
    here.parent().map(Path::to_path_buf).context("xtask is not below a checkout")
}

/// The cargo that runs this program, in the checkout.
pub(crate) fn plain_cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// A cargo that builds against `libtorch`, as plain cargo does with the settings of `cargo xtask setup`.
///
/// The loader's variable helps where RUSTFLAGS of the environment take the place of those settings.
pub(crate) fn cargo(root: &Path, libtorch: &Path) -> Command {
    let mut paths = vec![libtorch.join("lib")];
    if let Some(given) = std::env::var_os("LD_LIBRARY_PATH") {
        paths.extend(std::env::split_paths(&given).filter(|p| !p.as_os_str().is_empty()));
    }
    let mut command = plain_cargo(root);
    command.env("LIBTORCH", libtorch);
    if let Ok(paths) = std::env::join_paths(paths) {
        command.env("LD_LIBRARY_PATH", paths);
    }
    command
}

/// Runs a command to its end; an error says which one failed.
pub(crate) fn must(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("`{}` failed ({status})", words(command));
    }
    Ok(())
}

/// A command as it is typed.
pub(crate) fn words(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// A heading on standard error, with the seconds since the first.
pub(crate) fn step(what: &str) {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    eprintln!("==> {what} ({} s)", FIRST.elapsed().as_secs());
}
