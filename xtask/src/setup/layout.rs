//! What a usable folder with libtorch looks like, and the record that says one is complete.
//!
//! The record `.pipe-setup` is written last, inside a folder that then gets its name in one rename: a set-up that was
//! interrupted leaves nothing under that name. It lists the libraries with their sizes, so that a damaged folder is noticed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub(crate) const TORCH: &str = "2.11.0";
pub(crate) const TORCHVISION: &str = "0.26.0";
const RECORD: &str = ".pipe-setup";

/// Which libraries a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// libtorch and torchvision for the CPU.
    Cpu,
    /// The same with CUDA's libraries.
    Cuda,
    /// Links to an installation elsewhere.
    Links,
}

impl Layout {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Links => "links",
        }
    }
}

/// Writes the record of a finished folder.
pub(crate) fn write_record(folder: &Path, layout: Layout) -> Result<()> {
    let mut text = header(layout);
    if layout != Layout::Links {
        for file in libraries(folder)? {
            let size = fs::metadata(folder.join(&file))?.len();
            writeln!(text, "{size} {}", file.display())?;
        }
    }
    fs::write(folder.join(RECORD), text).context("write the record of the set-up")
}

/// The layout of a folder with a record whose libraries are all there in their sizes and of the versions wanted.
pub(crate) fn read_record(folder: &Path) -> Option<Layout> {
    let text = fs::read_to_string(folder.join(RECORD)).ok()?;
    let layout = [Layout::Cpu, Layout::Cuda, Layout::Links].into_iter().find(|l| text.starts_with(&header(*l)))?;
    let whole = text[header(layout).len()..].lines().all(|line| {
        line.split_once(' ')
            .is_some_and(|(size, file)| fs::metadata(folder.join(file)).is_ok_and(|m| size.parse() == Ok(m.len())))
    });
    (whole && check(&folder.join("torch")).is_ok()).then_some(layout)
}

/// Whether a folder was made by the set-up, complete or not.
pub(crate) fn has_record(folder: &Path) -> bool {
    folder.join(RECORD).is_file()
}

/// Whether `torch` is a libtorch that pipe builds against.
pub(crate) fn check(torch: &Path) -> Result<()> {
    for part in ["include/ATen", "include/c10", "lib/libtorch_cpu.so", "lib/libc10.so"] {
        if !torch.join(part).exists() {
            bail!("{} is no libtorch: {part} is missing", torch.display());
        }
    }
    match version(torch) {
        Some(found) if found.split('+').next() == Some(TORCH) => Ok(()),
        Some(found) => bail!("{} is libtorch {found}; pipe needs {TORCH}", torch.display()),
        None => bail!("{} does not say its version; pipe needs {TORCH}", torch.display()),
    }
}

/// The version by the wheel's `version.py`, or by `build-version` of libtorch's own archive.
pub(crate) fn version(torch: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(torch.join("version.py")) {
        let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
        return Some(line.trim().trim_matches(['\'', '"']).to_owned());
    }
    Some(fs::read_to_string(torch.join("build-version")).ok()?.trim().to_owned())
}

fn header(layout: Layout) -> String {
    format!("layout {}\ntorch {TORCH}\ntorchvision {TORCHVISION}\n", layout.name())
}

/// Shared libraries directly in the folders that the program uses, relative to `folder`.
fn libraries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for place in ["torch/lib", "torchvision", "torchvision.libs", "nvidia/cu13/lib"] {
        let Ok(entries) = fs::read_dir(folder.join(place)) else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().contains(".so") && entry.path().is_file() {
                found.push(Path::new(place).join(entry.file_name()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a finished one, under the system's temporary folder.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pipe-xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for dir in ["torch/include/ATen", "torch/include/c10", "torch/lib"] {
            fs::create_dir_all(folder.join(dir)).unwrap();
        }
        for file in ["libtorch_cpu.so", "libc10.so"] {
            fs::write(folder.join("torch/lib").join(file), file).unwrap();
        }
        fs::write(folder.join("torch/version.py"), "__version__ = '2.11.0+cu130'\n").unwrap();
        folder
    }

    #[test]
    fn a_record_holds_until_a_library_changes_size() {
        let folder = folder("record");
        assert!(!has_record(&folder));
        assert_eq!(read_record(&folder), None);
        write_record(&folder, Layout::Cpu).unwrap();
        assert_eq!(read_record(&folder), Some(Layout::Cpu));
        fs::write(folder.join("torch/lib/libc10.so"), "cut").unwrap();
        assert_eq!(read_record(&folder), None);
        fs::remove_file(folder.join("torch/lib/libc10.so")).unwrap();
        assert_eq!(read_record(&folder), None);
        assert!(has_record(&folder));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn only_the_right_version_passes() {
        let folder = folder("version");
        let torch = folder.join("torch");
        check(&torch).unwrap();
        fs::write(torch.join("version.py"), "__version__ = '2.12.0'\n").unwrap();
        assert!(check(&torch).unwrap_err().to_string().contains("2.12.0; pipe needs 2.11.0"));
        fs::remove_file(torch.join("version.py")).unwrap();
        assert!(check(&torch).unwrap_err().to_string().contains("does not say its version"));
        fs::write(torch.join("build-version"), "2.11.0+cpu\n").unwrap();
        check(&torch).unwrap();
        fs::remove_file(torch.join("lib/libc10.so")).unwrap();
        assert!(check(&torch).unwrap_err().to_string().contains("lib/libc10.so is missing"));
        fs::remove_dir_all(folder).unwrap();
    }
}
