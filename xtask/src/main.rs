//! Set-up, tests and installation of pipe: `cargo xtask COMMAND`. Builds without libtorch, which it fetches.

mod checks;
mod install;
mod layout;
mod python;
mod setup;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  setup [--cuda | --cpu] [--python EXE]
        puts libtorch and torchvision into .libtorch, with pip. With CUDA where there is an NVIDIA GPU.
        LIBTORCH in the environment, or --python (one that has torch), are used in place and only linked.
  demo [ARGUMENTS OF pipe run]
        setup, a release build, and the demonstration: pipe run pipelines/mnist.toml --profile demo
  test  setup, formatting, clippy, generated files, all tests: what CI runs (also: ci)
  generated [--check]
        writes the files that the program makes (schemas, docs/components.md), or says which are stale
  install [--prefix DIR]
        puts `pipe` into DIR/bin (default: ~/.local/bin)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let Some((command, rest)) = arguments.split_first() else {
        print!("{HELP}");
        return Ok(());
    };
    let root = root()?;
    match command.as_str() {
        "setup" => setup::setup(&root, &setup::Options::parse(rest)?).map(drop),
        "demo" => demo(&root, rest),
        "test" | "ci" => match rest {
            [] => checks::test(&root),
            _ => bail!("`test` takes no arguments"),
        },
        "generated" => match rest {
            [] => checks::generated(&root, false),
            [flag] if flag == "--check" => checks::generated(&root, true),
            _ => bail!("`generated` takes --check or nothing"),
        },
        "install" => install::install(&root, rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        unknown => bail!("unknown command `{unknown}`\n\n{HELP}"),
    }
}

fn demo(root: &Path, rest: &[String]) -> Result<()> {
    let libtorch = setup::setup(root, &setup::Options::default())?;
    step("build");
    must(cargo(root, &libtorch).args(["build", "--release", "--bin", "pipe"]))?;
    step("demo");
    let pipe = target(root).join("release/pipe");
    must(Command::new(pipe).args(["run", "pipelines/mnist.toml", "--profile", "demo"]).args(rest).current_dir(root))
}

/// The checkout.
fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Cargo says where the checkout is now; the path of the build stands in for a program run by hand.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| manifest.to_path_buf(), PathBuf::from);
    here.parent().map(Path::to_path_buf).context("xtask lies in no checkout")
}

/// Cargo's target folder.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// A cargo that builds against `libtorch`. Tests of documentation find it by the loader's variable.
fn cargo(root: &Path, libtorch: &Path) -> Command {
    let mut paths = vec![libtorch.join("lib")];
    if let Some(given) = std::env::var_os("LD_LIBRARY_PATH") {
        paths.extend(std::env::split_paths(&given).filter(|p| !p.as_os_str().is_empty()));
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).env("LIBTORCH", libtorch);
    if let Ok(paths) = std::env::join_paths(paths) {
        command.env("LD_LIBRARY_PATH", paths);
    }
    command
}

/// Runs a command to its end; an error says which one failed.
fn must(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !status.success() {
        let words: Vec<_> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy())
            .collect();
        bail!("`{}` failed ({status})", words.join(" "));
    }
    Ok(())
}

/// A heading on standard error.
fn step(what: &str) {
    eprintln!("==> {what}");
}
