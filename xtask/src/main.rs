//! Set-up, tests and installation of pipe: `cargo xtask COMMAND`. Builds without libtorch, which it fetches.

mod checks;
mod circles;
mod demo;
mod install;
mod lint;
mod map;
mod metadata;
mod page;
mod python;
mod rules;
mod setup;
mod shell;
mod soak;
mod suites;
mod tally;
mod wheel;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use shell::root;

const HELP: &str = "\
cargo xtask COMMAND

  setup [--cuda | --cpu] [--python EXE]
        gets libtorch and torchvision, once for all checkouts, with pip. With CUDA where there is an NVIDIA GPU.
        Makes the page of `pipe ui`, with the system's Node or that of PyPI.
        LIBTORCH in the environment, or --python (one that has torch), are used in place and only linked.
  demo [OPTIONS OF pipe run]
        setup, a release build, and the demonstration, about four minutes on two cores: trains Mask R-CNN on built-in images of
        shapes, draws its predictions, and fails if its masks are not good
  test  setup, formatting, circles, clippy, generated files, all tests: what CI runs (also: ci). Ends with the number of
        tests that passed, failed and were skipped, and why
  generated [--check]
        writes the files that are made from the code (schemas, docs/components.md, docs/checks.md, the map), or says which are stale
  circles
        fails if crates, files of a crate or its top-level modules depend on each other in a circle
  map [--check]
        writes the drawing of the crates and their modules in docs/ARCHITECTURE.md, or says whether it is stale
  soak PART
        what runs for as long as one likes and looks for faults; without PART: the parts
  wheel [--out DIR]
        makes a Python wheel of `pipe`, for environments with torch 2.11, into DIR (default: target/wheels)
  install [--prefix DIR]
        puts `pipe` into DIR/bin (default: ~/.local/bin)
";

fn main() -> ExitCode {
    if let Some(arguments) = lint::compiling() {
        return lint::compile(&arguments);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let root = root()?;
    if matches!(command.as_str(), "test" | "ci") {
        return match rest {
            [] => checks::test(&root),
            _ => bail!("`test` takes no arguments"),
        };
    }
    other(&root, command, rest).map(|()| ExitCode::SUCCESS)
}

fn other(root: &Path, command: &str, rest: &[String]) -> Result<()> {
    match command {
        "setup" => setup::setup(root, &setup::Options::parse(rest)?).map(drop),
        "demo" => demo::demo(root, rest),
        "generated" => match rest {
            [] => checks::generated(root, false),
            [flag] if flag == "--check" => checks::generated(root, true),
            _ => bail!("`generated` takes --check or nothing"),
        },
        "circles" => match rest {
            [] => circles::check(root),
            _ => bail!("`circles` takes no arguments"),
        },
        "map" => match rest {
            [] => map::map(root, false),
            [flag] if flag == "--check" => map::map(root, true),
            _ => bail!("`map` takes --check or nothing"),
        },
        "soak" => soak::soak(root, rest),
        "wheel" => wheel::wheel(root, rest),
        "install" => install::install(root, rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        unknown => bail!("unknown command `{unknown}`\n\n{HELP}"),
    }
}
