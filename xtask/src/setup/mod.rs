//! `cargo xtask setup`: libtorch and torchvision for this checkout, and cargo's settings for them; and the page of `pipe ui`.

mod cache;
mod fetch;
mod glue;
mod layout;
mod place;
mod settings;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use glue::Glue;
use layout::{Layout, TORCHVISION};
use place::{Place, is_link};

use crate::page;
use crate::python::torch_of;
use crate::shell::step;

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

/// Makes this checkout ready and returns the folder to build against by its real path. Instant when it is ready already.
pub(crate) fn setup(root: &Path, options: &Options) -> Result<PathBuf> {
    if !cfg!(target_os = "linux") {
        bail!("the set-up knows Linux only");
    }
    let torch = libtorch(root, options)?;
    let glue = match Glue::find(root, &torch)? {
        Some(glue) => glue,
        None => {
            settings::write(root, &torch, None)?;
            Glue::make(root, &torch)?
        }
    };
    settings::write(root, &torch, Some(&glue))?;
    page::ready(root);
    Ok(torch)
}

/// Whether [`setup`] is going to fetch libtorch into the cache. Cargo's settings then name its place already, so that what needs no
/// libtorch can be built meanwhile.
pub(crate) fn announce(root: &Path) -> Result<bool> {
    let given = elsewhere(root, &root.join(".libtorch/torch"), &Options::default())?;
    if given.is_some() || root.join(".libtorch").symlink_metadata().is_ok() {
        return Ok(false);
    }
    let wanted = if has_gpu() { Layout::Cuda } else { Layout::Cpu };
    let (cache, place) = cache::place(wanted)?;
    if layout::read_record(&place) == Some(wanted) {
        return Ok(false);
    }
    fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    // By its real path, as in the end.
    let real = cache.canonicalize()?.join(place.file_name().unwrap_or_default()).join("torch");
    settings::write(root, &real, None)?;
    Ok(true)
}

/// Makes `.libtorch` ready: a link into the cache, a folder of links to a libtorch of the user's own, or what is there.
fn libtorch(root: &Path, options: &Options) -> Result<PathBuf> {
    let place = Place::new(root.join(".libtorch"));
    let torch = place.path().join("torch");
    // Cargo's settings and the environment name libtorch by its real path: every checkout then builds against the same.
    let real = || torch.canonicalize().with_context(|| format!("find {}", torch.display()));
    if let Some(elsewhere) = elsewhere(root, &torch, options)? {
        link(&place, &elsewhere)?;
        return real();
    }
    let cache = cache::folder()?;
    let cached = fs::read_link(place.path()).is_ok_and(|to| to.starts_with(&cache));
    // A `.libtorch` that this program did not make is the user's: used as it is, never replaced.
    if !cached && (is_link(place.path()) || (place.path().exists() && !layout::has_record(place.path()))) {
        layout::check(&torch).context(".libtorch was not made by the set-up and cannot be used: move it away")?;
        return real();
    }
    let ready = layout::read_record(place.path());
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
        place.point_to(&cache::ready(wanted)?)?;
    }
    real()
}

/// The libtorch of the user's own that is asked for.
fn elsewhere(root: &Path, torch: &Path, options: &Options) -> Result<Option<PathBuf>> {
    if let Some(python) = &options.python {
        return torch_of(python).map(Some);
    }
    // Where the environment has no LIBTORCH, cargo gives this program the one of its settings.
    let given = std::env::var_os("LIBTORCH").filter(|v| !v.is_empty()).map(PathBuf::from);
    let is_own = |given: &PathBuf| options.layout.is_none() && given != torch && !settings::names(root, given);
    Ok(given.filter(is_own))
}

/// Makes `.libtorch` a folder of links to an installation and its neighbours.
fn link(place: &Place, torch: &Path) -> Result<()> {
    let torch = torch.canonicalize().with_context(|| format!("LIBTORCH: {}", torch.display()))?;
    layout::check(&torch)?;
    if place.path().join("torch").canonicalize().is_ok_and(|now| now == torch) {
        return Ok(());
    }
    step(&format!("link .libtorch to {}", torch.display()));
    let fresh = place.fresh()?;
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
    place.put(&fresh)
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
}
