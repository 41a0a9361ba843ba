//! Weights on disk: reading `.safetensors` and `.pth`, writing `.safetensors`.
//!
//! - [`read`] tells the formats apart by their first bytes, not by the file's name;
//! - [`safetensors`]: the format written here, atomically;
//! - [`pth`]: what `torch.save` wrote, of today (a zip archive) and of before PyTorch 1.6;
//! - [`pickle`]: the data-only subset of Python's pickle those contain. Nothing in a file is ever executed.

pub mod pickle;
pub mod pth;
pub mod safetensors;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::nn::StateDict;

pub use self::safetensors::write;

/// The weights of one file.
#[derive(Debug)]
pub struct Weights {
    /// Tensors by name, on the CPU.
    pub tensors: StateDict,
    /// What the file says of itself: a safetensors file's `__metadata__`, empty for a `.pth`.
    pub metadata: BTreeMap<String, String>,
    /// The key of a `.pth` checkpoint under which the weights lay (`model`, …), if it was not a bare state dict.
    pub found_under: Option<String>,
}

/// Reads a file of weights, whatever its format.
///
/// # Errors
/// The file cannot be read, is none of the formats, is damaged, or holds no tensors by name. The message names the file.
pub fn read(path: &Path) -> Result<Weights> {
    let file = || File::open(path).with_context(|| format!("opening weights {}", path.display()));
    let mut head = Vec::new();
    file()?.take(16).read_to_end(&mut head).with_context(|| format!("reading weights {}", path.display()))?;
    let read = match Format::of(&head) {
        Some(Format::SafeTensors) => safetensors::read(path),
        Some(Format::Zip) => pth::read_zip(file()?),
        Some(Format::Legacy) => pth::read_legacy(file()?),
        None => bail!(
            "{} is not a file of weights: expected .safetensors, or what torch.save wrote (.pth, .pt)",
            path.display()
        ),
    };
    read.with_context(|| format!("reading weights {}", path.display()))
}

#[derive(Debug, PartialEq, Eq)]
enum Format {
    SafeTensors,
    Zip,
    Legacy,
}

impl Format {
    fn of(head: &[u8]) -> Option<Self> {
        match head {
            [b'P', b'K', 3, 4, ..] => Some(Self::Zip),
            [0x80, 2..=5, ..] => Some(Self::Legacy),
            // Eight bytes of header length, then the JSON header.
            [_, _, _, _, _, _, 0, 0, b'{', ..] => Some(Self::SafeTensors),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_refused_by_name() {
        let file = tempfile::Builder::new().suffix(".pth").tempfile().unwrap();
        std::fs::write(file.path(), "<html>404</html>").unwrap();
        let error = read(file.path()).unwrap_err().to_string();
        assert!(error.contains(".pth is not a file of weights"), "{error}");
        let error = format!("{:#}", read(Path::new("absent.pth")).unwrap_err());
        assert!(error.starts_with("opening weights absent.pth: "), "{error}");
    }
}
