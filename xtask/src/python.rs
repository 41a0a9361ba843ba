//! Python and pip, used to fetch and unpack wheels.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell::must;

/// An interpreter that has pip.
pub(crate) struct Python {
    exe: PathBuf,
}

impl Python {
    /// `python3` or `python`, whichever has pip.
    pub(crate) fn find() -> Result<Self> {
        for exe in ["python3", "python"] {
            let works =
                Command::new(exe).args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            if works.is_ok_and(|status| status.success()) {
                return Ok(Self { exe: exe.into() });
            }
        }
        bail!(
            "no Python 3 with pip was found, which fetches libtorch. Install one (for example the packages python3 and \
             python3-pip), or set LIBTORCH to a libtorch 2.11 that you have"
        )
    }

    /// `python -m pip …`.
    pub(crate) fn pip(&self) -> Command {
        let mut command = Command::new(&self.exe);
        command.args(["-m", "pip"]).env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        command
    }

    /// Runs a script with arguments.
    pub(crate) fn script<A: AsRef<OsStr>>(&self, script: &str, arguments: &[A]) -> Result<()> {
        let status = Command::new(&self.exe).arg("-c").arg(script).args(arguments).status();
        let status = status.with_context(|| format!("cannot run {}", self.exe.display()))?;
        if !status.success() {
            bail!("unpacking failed ({status})");
        }
        Ok(())
    }

    /// Makes a virtual environment.
    pub(crate) fn venv(&self, at: &Path) -> Result<()> {
        must(Command::new(&self.exe).args(["-m", "venv"]).arg(at))
    }
}

/// Options of pip that ask for wheels of one fixed Python: only libraries are used, and not every Python has wheels.
pub(crate) fn fixed_wheels() -> Vec<String> {
    let machine = std::env::consts::ARCH;
    let mut options: Vec<String> =
        ["--only-binary=:all:", "--implementation=cp", "--python-version=3.12"].map(String::from).into();
    // pip takes the tags word by word; older glibc tags are fine too.
    options.extend((17..=28).rev().map(|minor| format!("--platform=manylinux_2_{minor}_{machine}")));
    options.push(format!("--platform=manylinux2014_{machine}"));
    options
}

/// The folder of the `torch` package of a Python, found without importing it.
pub(crate) fn torch_of(exe: &str) -> Result<PathBuf> {
    let script =
        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')";
    let output = Command::new(exe).args(["-c", script]).output().with_context(|| format!("cannot run {exe}"))?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || path.is_empty() {
        bail!("the Python {exe} has no torch: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(path.into())
}
