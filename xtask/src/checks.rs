//! `cargo xtask test`: everything that CI checks, in one order, ending with the sum of the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::circles;
use crate::map;
use crate::metadata::target;
use crate::page;
use crate::python::Python;
use crate::rules;
use crate::setup::{Options, setup};
use crate::shell::{cargo, must, step};
use crate::tally;

/// What tests need that read event files with the real TensorBoard and check the schema with the editors' own Taplo.
const TEST_PACKAGES: &str = "tensorboard==2.21.0 jsonschema==4.25.1 taplo==0.9.3 pycocotools==2.0.11";

/// Files that the program writes about itself: the command that makes each.
const GENERATED: [(&str, &[&str]); 2] =
    [("schemas/pipeline.json", &["schema"]), ("docs/components.md", &["components", "--format", "markdown"])];

/// Runs all checks. The status is that of the tests, which run last; any other check that fails is an error before.
pub(crate) fn test(root: &Path) -> Result<ExitCode> {
    let libtorch = setup(root, &Options::default())?;
    if page::ready(root) {
        step("types of the page");
        page::check(root)?;
    }
    step("formatting");
    must(cargo(root, &libtorch).args(["fmt", "--all", "--check"]))?;
    step("circles");
    circles::check(root)?;
    step("clippy");
    let lints = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"];
    must(cargo(root, &libtorch).args(lints))?;
    // Before the program is asked what it writes: built for the tests it is not built a second time, with other features of its crates.
    generated_with(root, &libtorch, true, &["test", "--workspace", "--no-run", "--quiet"])?;
    let python = test_python(root);
    step("tests");
    let mut tests = cargo(root, &libtorch);
    // A crate whose tests fail hides no other's.
    tests.args(["test", "--workspace", "--no-fail-fast"]);
    if let Some(python) = python {
        tests.env("PIPE_TEST_PYTHON", python);
    }
    tally::run(&mut tests)
}

/// Writes the generated files and the map, or with `check` says which are stale.
pub(crate) fn generated(root: &Path, check: bool) -> Result<()> {
    let libtorch = setup(root, &Options::default())?;
    generated_with(root, &libtorch, check, &["build", "--quiet", "--bin", "pipe"])
}

/// `build`: the arguments with which cargo builds the program.
fn generated_with(root: &Path, libtorch: &Path, check: bool, build: &[&str]) -> Result<()> {
    step("generated files");
    map::map(root, check)?;
    must(cargo(root, libtorch).args(build))?;
    let pipe = target(root)?.join("debug/pipe");
    let mut stale = Vec::new();
    let mut made = vec![("docs/checks.md", rules::page(root, &pipe)?.into_bytes())];
    for (file, command) in GENERATED {
        let output = Command::new(&pipe).args(command).output().with_context(|| format!("run {}", pipe.display()))?;
        if !output.status.success() || output.stdout.is_empty() {
            bail!("`pipe {}`, which makes {file}, printed nothing", command.join(" "));
        }
        made.push((file, output.stdout));
    }
    for (file, content) in made {
        let path = root.join(file);
        if fs::read(&path).is_ok_and(|now| now == content) {
            continue;
        }
        if check {
            stale.push(file);
            continue;
        }
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(&path, &content).with_context(|| format!("write {file}"))?;
        eprintln!("wrote {file}");
    }
    if !stale.is_empty() {
        bail!("not what the program makes now: {}. Run `cargo xtask generated`", stale.join(", "));
    }
    Ok(())
}

/// A Python with TensorBoard in `.testenv`. Without one the tests that need it say so and pass.
fn test_python(root: &Path) -> Option<PathBuf> {
    let folder = root.join(".testenv");
    let (python, record) = (folder.join("bin/python"), folder.join(".complete"));
    if fs::read_to_string(&record).is_ok_and(|text| text == TEST_PACKAGES) && python.is_file() {
        return Some(python);
    }
    step("TensorBoard for the tests, in .testenv");
    match make_test_python(&folder, &python, &record) {
        Ok(()) => Some(python),
        Err(error) => {
            eprintln!("note: {error:#}; tests that read files with TensorBoard are skipped");
            None
        }
    }
}

fn make_test_python(folder: &Path, python: &Path, record: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).context("remove the former .testenv")?;
    }
    Python::find()?.venv(folder)?;
    let packages = TEST_PACKAGES.split_whitespace();
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    // pkg_resources, which TensorBoard imports, left setuptools with version 81.
    must(Command::new(python).args(pip).arg("setuptools<81").args(packages))?;
    must(Command::new(python).args(["-c", "import tensorboard.backend.event_processing.event_accumulator"]))?;
    fs::write(record, TEST_PACKAGES).context("write the record of .testenv")
}
