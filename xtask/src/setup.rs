//! `cargo xtask setup`: libtorch and torchvision in `.libtorch`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::layout::{self, Layout, TORCH, TORCHVISION};
use crate::python::{Python, fixed_wheels, torch_of};
use crate::{must, step};

const UNPACK: &str = include_str!("unpack.py");

/// What `libtorch_cpu.so` needs besides itself.
const CPU_EXTRAS: [&str; 2] = ["nvidia-cuda-cupti==13.0.85", "nvidia-cuda-runtime==13.0.96"];

/// Which libtorch the user asks for.
#[derive(Default)]
pub(crate) struct Options {
    layout: Option<Layout>,
    python: Option<String>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--cuda" => options.layout = Some(Layout::Cuda),
                "--cpu" => options.layout = Some(Layout::Cpu),
                "--python" => options.python = Some(rest.next().context("--python takes an interpreter")?.clone()),
                other => {
                    bail!("`setup` does not know `{other}`: it takes --cuda, --cpu, --python EXE")
                }
            }
        }
        if options.python.is_some() && options.layout.is_some() {
            bail!("--python uses that Python's torch as it is: leave --cuda and --cpu away");
        }
        Ok(options)
    }
}

/// Makes `.libtorch` ready and returns the folder to build against, `.libtorch/torch`. Instant when it is ready already.
pub(crate) fn setup(root: &Path, options: &Options) -> Result<PathBuf> {
    if !cfg!(target_os = "linux") {
        bail!("the set-up knows Linux only");
    }
    let place = root.join(".libtorch");
    let torch = place.join("torch");
    if let Some(elsewhere) = elsewhere(&torch, options)? {
        link(root, &place, &elsewhere)?;
        return Ok(torch);
    }
    // A `.libtorch` that this program did not make is the user's: used as it is, never replaced.
    let is_link = fs::symlink_metadata(&place).is_ok_and(|m| m.is_symlink());
    if is_link || (place.exists() && !layout::has_record(&place)) {
        layout::check(&torch).context(".libtorch was not made by the set-up and cannot be used: move it away")?;
        return Ok(torch);
    }
    let ready = layout::read_record(&place);
    let wanted = match (options.layout, ready) {
        (Some(asked), _) => asked,
        // Links are kept until another layout is asked for by name.
        (None, Some(Layout::Links)) => Layout::Links,
        (None, _) if has_gpu() => Layout::Cuda,
        // The larger one does for a machine that has lost its GPU.
        (None, Some(Layout::Cuda)) => Layout::Cuda,
        (None, _) => Layout::Cpu,
    };
    if ready != Some(wanted) {
        fetch(root, &place, wanted)?;
    }
    Ok(torch)
}

/// The libtorch of the user's own that is asked for.
fn elsewhere(torch: &Path, options: &Options) -> Result<Option<PathBuf>> {
    if let Some(python) = &options.python {
        return torch_of(python).map(Some);
    }
    // Cargo itself sets LIBTORCH to the checkout's where the environment has none.
    let given = std::env::var_os("LIBTORCH").filter(|v| !v.is_empty()).map(PathBuf::from);
    Ok(given.filter(|path| path != torch && options.layout.is_none()))
}

/// Makes `.libtorch` a folder of links to an installation and its neighbours.
fn link(root: &Path, place: &Path, torch: &Path) -> Result<()> {
    let torch = torch.canonicalize().with_context(|| format!("LIBTORCH: {}", torch.display()))?;
    layout::check(&torch)?;
    if place.join("torch").canonicalize().is_ok_and(|now| now == torch) {
        return Ok(());
    }
    step(&format!("link .libtorch to {}", torch.display()));
    let fresh = fresh_folder(root)?;
    symlink(&torch, fresh.join("torch"))?;
    let beside = torch.parent().unwrap_or(Path::new("/"));
    for name in ["torchvision", "torchvision.libs", "nvidia"] {
        if beside.join(name).is_dir() {
            symlink(beside.join(name), fresh.join(name))?;
        }
    }
    if !beside.join("torchvision/_C.so").is_file() {
        eprintln!(
            "note: no torchvision {TORCHVISION} beside it, which nms and image files need. Set PIPE_TORCHVISION to the \
             folder of one"
        );
    }
    layout::write_record(&fresh, Layout::Links)?;
    put_in_place(root, &fresh, place)
}

fn fetch(root: &Path, place: &Path, wanted: Layout) -> Result<()> {
    let python = Python::find()?;
    let fresh = fresh_folder(root)?;
    match wanted {
        Layout::Cuda => fetch_cuda(&python, &fresh)?,
        _ => fetch_cpu(&python, &partial(root).join("wheels"), &fresh)?,
    }
    layout::check(&fresh.join("torch"))?;
    layout::write_record(&fresh, wanted)?;
    put_in_place(root, &fresh, place)?;
    eprintln!("libtorch {TORCH} ({}) is ready in {}", wanted.name(), place.display());
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

/// Whether the driver of an NVIDIA GPU runs here and lists one.
fn has_gpu() -> bool {
    Path::new("/proc/driver/nvidia/gpus").read_dir().is_ok_and(|mut gpus| gpus.next().is_some())
        || Command::new("nvidia-smi")
            .arg("-L")
            .stderr(Stdio::null())
            .output()
            .is_ok_and(|out| out.status.success() && out.stdout.starts_with(b"GPU "))
}

fn partial(root: &Path) -> PathBuf {
    root.join(".libtorch.partial")
}

/// An empty folder beside `.libtorch` to fill.
fn fresh_folder(root: &Path) -> Result<PathBuf> {
    let fresh = partial(root).join("tree");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).context("remove what an interrupted set-up left")?;
    }
    fs::create_dir_all(&fresh).context("make a folder for libtorch")?;
    Ok(fresh)
}

/// Gives the finished folder its name; only folders that the set-up made, and links, are replaced.
fn put_in_place(root: &Path, fresh: &Path, place: &Path) -> Result<()> {
    let is_link = fs::symlink_metadata(place).is_ok_and(|m| m.is_symlink());
    if is_link {
        fs::remove_file(place).context("remove the link .libtorch")?;
    } else if place.exists() {
        if !layout::has_record(place) {
            bail!("{} was not made by the set-up: move it away", place.display());
        }
        // Moved whole before it is removed: an interruption leaves no half folder under the name.
        let former = partial(root).join("former");
        if former.exists() {
            fs::remove_dir_all(&former).context("remove what an interrupted set-up left")?;
        }
        fs::rename(place, &former).context("move the former .libtorch away")?;
    }
    fs::rename(fresh, place).context("put .libtorch in place")?;
    // Downloaded wheels have served; until here an interrupted run would have gone on with them.
    fs::remove_dir_all(partial(root)).context("remove .libtorch.partial")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_and_contradictions_refused() {
        assert_eq!(parse(&["--cuda"]).unwrap().layout, Some(Layout::Cuda));
        assert_eq!(parse(&["--python", "py"]).unwrap().python.as_deref(), Some("py"));
        for wrong in [&["--gpu"][..], &["--python"], &["--python", "py", "--cpu"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_finished_folder_replaces_only_what_the_set_up_made() {
        let root = std::env::temp_dir().join(format!("pipe-xtask-place-{}", std::process::id()));
        let place = root.join(".libtorch");
        let fill = |text: &str| {
            let fresh = fresh_folder(&root).unwrap();
            fs::write(fresh.join("torch"), text).unwrap();
            layout::write_record(&fresh, Layout::Links).unwrap();
            put_in_place(&root, &fresh, &place)
        };
        fill("first").unwrap();
        fill("second").unwrap();
        assert_eq!(fs::read_to_string(place.join("torch")).unwrap(), "second");
        assert!(!partial(&root).exists());
        fs::remove_file(place.join(".pipe-setup")).unwrap();
        assert!(fill("third").unwrap_err().to_string().contains("move it away"));
        assert_eq!(fs::read_to_string(place.join("torch")).unwrap(), "second");
        fs::remove_dir_all(root).unwrap();
    }
}
