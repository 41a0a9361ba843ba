//! Downloading libtorch and torchvision with pip.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::layout::{self, Layout, TORCH, TORCHVISION};
use super::place::Place;
use crate::python::{Python, fixed_wheels};
use crate::shell::{must, step};

const UNPACK: &str = include_str!("unpack.py");

/// What `libtorch_cpu.so` needs besides itself.
const CPU_EXTRAS: [&str; 2] = ["nvidia-cuda-cupti==13.0.85", "nvidia-cuda-runtime==13.0.96"];

/// Fills a place with that layout.
pub(crate) fn fetch(place: &Place, wanted: Layout) -> Result<()> {
    let python = Python::find()?;
    let fresh = place.fresh()?;
    match wanted {
        Layout::Cuda => fetch_cuda(&python, &fresh)?,
        _ => fetch_cpu(&python, &place.partial().join("wheels"), &fresh)?,
    }
    layout::check(&fresh.join("torch"))?;
    layout::write_record(&fresh, wanted)?;
    place.put(&fresh)?;
    eprintln!("libtorch {TORCH} ({}) is ready in {}", wanted.name(), place.path().display());
    Ok(())
}

/// The layout without CUDA: four wheels, and of these only what the program uses (about 0.5 GB).
fn fetch_cpu(python: &Python, wheels: &Path, fresh: &Path) -> Result<()> {
    step("download libtorch for the CPU (about 0.6 GB)");
    let packages: Vec<String> = [format!("torch=={TORCH}"), format!("torchvision=={TORCHVISION}")]
        .into_iter()
        .chain(CPU_EXTRAS.map(String::from))
        .collect();
    let download = |options: &[String]| {
        must(
            python
                .pip()
                .args(["download", "--no-deps", "--progress-bar=off", "--dest"])
                .arg(wheels)
                .args(options)
                .args(&packages),
        )
    };
    if let Err(error) = download(&fixed_wheels()) {
        eprintln!("note: {error:#}; trying the wheels of this Python");
        download(&[]).context("libtorch could not be downloaded with pip")?;
    }
    step("unpack");
    let mut arguments = vec![fresh.to_path_buf()];
    for entry in fs::read_dir(wheels).context("read the downloaded wheels")? {
        arguments.push(entry?.path());
    }
    arguments.retain(|path| path == fresh || path.extension().is_some_and(|e| e == "whl"));
    python.script(UNPACK, &arguments)
}

/// The layout with CUDA: the packages with all they need (about 5 GB), checked by pip as it installs them.
fn fetch_cuda(python: &Python, fresh: &Path) -> Result<()> {
    step("download libtorch with CUDA (about 3 GB, 5 GB unpacked)");
    let install = |options: &[String]| {
        let mut pip = python.pip();
        pip.args(["install", "--no-compile", "--progress-bar=off", "--upgrade", "--target"]).arg(fresh).args(options);
        must(pip.arg(format!("torch=={TORCH}")).arg(format!("torchvision=={TORCHVISION}")))
    };
    if let Err(error) = install(&fixed_wheels()) {
        eprintln!("note: {error:#}; trying the wheels of this Python");
        install(&[]).context("libtorch could not be installed with pip")?;
    }
    if !fresh.join("torch/lib/libtorch_cuda.so").is_file() {
        bail!("the torch {TORCH} that pip found is without CUDA");
    }
    Ok(())
}
