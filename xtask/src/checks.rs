//! `cargo xtask test`: everything that CI checks, in one order, ending with the sum of the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::circles;
use crate::lint::Lint;
use crate::map;
use crate::metadata::target;
use crate::page;
use crate::python::Python;
use crate::rules;
use crate::setup::{Options, announce, setup};
use crate::shell::{cargo, must, plain_cargo, step};
use crate::suites::{self, NO_FEATURES, Suite};
use crate::tally::Sum;

/// What tests need that read event files with the real TensorBoard, check the schema with the editors' own Taplo, and jobs with the
/// schemas of Kubernetes and the models of Kubeflow.
const TEST_PACKAGES: &str = "tensorboard==2.21.0 jsonschema==4.25.1 taplo==0.9.3 pycocotools==2.0.11 kubernetes-validate==1.37.0 \
     kubeflow-trainer-api==2.3.0";

/// Files that the program writes about itself: the command that makes each.
const GENERATED: [(&str, &[&str]); 2] =
    [("schemas/pipeline.json", &["schema"]), ("docs/components.md", &["components", "--format", "markdown"])];

/// Bytes up to which glibc keeps and joins what is freed.
const KEEP: &str = "1073741824";

/// Runs all checks. The status is that of the tests, which run last; any other check that fails is an error before.
pub(crate) fn test(root: &Path) -> Result<ExitCode> {
    let lint = Lint::of(root)?;
    let ahead = announce(root)?.then(|| {
        thread::spawn({
            let root = root.to_path_buf();
            let lint = lint.clone();
            move || build_ahead(&root, &lint)
        })
    });
    // Waits for the network, too.
    let python = thread::spawn({
        let root = root.to_path_buf();
        move || test_python(&root)
    });
    let libtorch = setup(root, &Options::default())?;
    if let Some(ahead) = ahead {
        step("the rest of what needs no libtorch");
        let _ = ahead.join();
    }
    if page::ready(root) {
        step("types of the page");
        page::check(root)?;
    }
    step("formatting");
    must(cargo(root, &libtorch).args(["fmt", "--all", "--check"]))?;
    step("circles");
    circles::check(root)?;
    if matches!(lint, Lint::Before) {
        step("clippy");
        let lints = ["clippy", "--workspace", NO_FEATURES, "--all-targets", "--quiet", "--", "--deny", "warnings"];
        must(cargo(root, &libtorch).args(lints))?;
    }
    step("build of the tests");
    let suites = suites::build(root, &libtorch, &lint)?;
    if matches!(lint, Lint::Building(_)) {
        let mut benches = cargo(root, &libtorch);
        lint.tell(&mut benches);
        // Those of `pipe` itself are of the released program.
        must(benches.args(["build", "--workspace", "--exclude", "pipe", NO_FEATURES, "--bench", "*", "--quiet"]))?;
    }
    // The program was built for the tests.
    generated_by(root, true)?;
    let python = python.join().ok().flatten();
    step("tests");
    run_tests(suites, python.as_deref())
}

/// Builds what needs no libtorch, while that is fetched: fetching waits for the network, then unpacks and compiles on one core. What
/// fails here is said later.
fn build_ahead(root: &Path, lint: &Lint) {
    let mut cargo = plain_cargo(root);
    cargo.args(["build", "--workspace", NO_FEATURES, "--all-targets", "--keep-going", "--quiet"]);
    lint.tell(&mut cargo);
    let _ = cargo.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn run_tests(suites: Vec<Suite>, python: Option<&Path>) -> Result<ExitCode> {
    let mut sum = Sum::new()?;
    let skips = sum.skips().to_path_buf();
    let set = |tests: &mut Command| {
        Sum::tell(tests, &skips);
        // Threads that spin while they wait take the cores of what runs beside them.
        tests.env("OMP_WAIT_POLICY", "passive");
        // As jemalloc does for the released program: what is freed is kept, not taken from the system anew each step.
        tests.env("MALLOC_TRIM_THRESHOLD_", KEEP).env("MALLOC_MMAP_THRESHOLD_", KEEP);
        if let Some(python) = python {
            tests.env("PIPE_TEST_PYTHON", python);
        }
    };
    suites::run(suites, set, |ended| {
        println!("\n==> {}\n{}", ended.name, ended.output);
        sum.add(&ended.name, &ended.output, ended.status);
    })?;
    sum.finish()
}

/// Writes the generated files and the map, or with `check` says which are stale.
pub(crate) fn generated(root: &Path, check: bool) -> Result<()> {
    let libtorch = setup(root, &Options::default())?;
    must(cargo(root, &libtorch).args(["build", NO_FEATURES, "--quiet", "--bin", "pipe"]))?;
    generated_by(root, check)
}

/// As [`generated`], by the program that is built.
fn generated_by(root: &Path, check: bool) -> Result<()> {
    step("generated files");
    map::map(root, check)?;
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
