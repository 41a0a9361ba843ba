//! `cargo xtask soak wheel`: the wheel is installed into a fresh environment and run there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

use crate::metadata::target;
use crate::python::{Python, torch_of};
use crate::setup::{Options, setup};
use crate::shell::{must, step, words};
use crate::wheel::build;

/// Builds and tries it. The environment's torch is that of `--python`, whose packages are put on its path, otherwise the libraries of
/// `cargo xtask setup`, which pip takes for no package.
pub(super) fn wheel(root: &Path, arguments: &[String]) -> Result<()> {
    let (torch, is_package) = match arguments {
        [] => (setup(root, &Options::default())?, false),
        [flag, exe] if flag == "--python" => (torch_of(exe)?, true),
        _ => bail!("`soak wheel` takes --python EXE or nothing"),
    };
    let packages = torch.parent().context("torch lies in no folder")?;
    let work = target(root)?.join("wheel");
    let wheel = build(root, &work.join("try"))?;
    let venv = work.join("venv");
    let _ = fs::remove_dir_all(&venv);
    step("a fresh environment");
    Python::find()?.venv(&venv)?;
    let link = site_packages(&venv)?.join("with_torch.pth");
    let pip = |more: &[&str]| {
        let mut command = Command::new(venv.join("bin/python"));
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]);
        must(command.args(more).arg(&wheel))
    };
    let pipe = |arguments: &[&str]| run(Command::new(venv.join("bin/pipe")).args(arguments).current_dir(root));
    if is_package {
        ensure!(pip(&[]).is_err(), "the wheel can be installed without torch");
        fs::write(&link, format!("{}\n", packages.display()))?;
        pip(&[])?;
        fs::remove_file(&link)?;
    } else {
        pip(&["--no-deps"])?;
    }
    let (status, said) = pipe(&["--version"])?;
    ensure!(status == Some(2) && said.contains("has no torch and no torchvision"), "without torch: {status:?}: {said}");
    fs::write(&link, format!("{}\n", packages.display()))?;
    let (status, said) = pipe(&["--version"])?;
    let real = torch.join("lib").canonicalize()?;
    ensure!(status == Some(0) && said.contains("libtorch 2.11."), "{status:?}: {said}");
    ensure!(
        said.lines().any(|line| line.ends_with(&real.display().to_string())
            || line.ends_with(&torch.join("lib").display().to_string())),
        "another libtorch: {said}"
    );
    print!("{said}");
    let runs = work.join("runs");
    let run = runs.display().to_string();
    let _ = fs::remove_dir_all(&runs);
    let (status, said) = pipe(&["run", "pipelines/mnist.toml", "--profile", "demo", "--out", &run])?;
    print!("{said}");
    ensure!(status == Some(0) && said.contains("done after"), "the run: {status:?}");
    let (status, said) = pipe(&["check", "pipelines/mnist.toml", "--set", "optimizer.sgd.lrr=1"])?;
    ensure!(status == Some(2), "a mistake: {status:?}: {said}");
    println!("{} was installed and works", wheel.display());
    Ok(())
}

/// Runs a command to its end: its status, and what it said.
fn run(command: &mut Command) -> Result<(Option<i32>, String)> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("cannot run {}", words(command)))?;
    Ok((status.code(), [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()))
}

fn site_packages(venv: &Path) -> Result<PathBuf> {
    let versions = fs::read_dir(venv.join("lib")).context("the environment has no lib")?;
    let mut places = versions.flatten().map(|entry| entry.path().join("site-packages"));
    places.find(|path| path.is_dir()).context("the environment has no site-packages")
}
