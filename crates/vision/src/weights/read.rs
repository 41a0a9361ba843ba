//! Reading a file of any format.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use pipe_vocab::files;

use super::types::{CLASSES, Weights};
use super::{pth, safetensors, torchvision};
use crate::nn::StateDict;

/// Reads a file of weights, whatever its format.
///
/// # Errors
/// The file cannot be read, is none of the formats, is damaged, or holds no tensors by name. The message names the file.
pub fn read(path: &Path) -> Result<Weights> {
    let file = || files::open(path).with_context(|| format!("opening weights {}", path.display()));
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
    let mut weights = read.with_context(|| format!("reading weights {}", path.display()))?;
    weights.tensors = unwrapped(weights.tensors);
    if let Some(named) = torchvision::of_file(path) {
        weights.metadata.insert(CLASSES.to_owned(), serde_json::to_string(&named.classes())?);
    }
    Ok(weights)
}

/// What wrappers put before every name: `DataParallel` and `AveragedModel`, `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// How often `AveragedModel` has averaged: no weight.
const AVERAGED: &str = "n_averaged";

/// The tensors under the names that the model itself gives them.
fn unwrapped(mut tensors: StateDict) -> StateDict {
    loop {
        let names = || tensors.keys().filter(|name| *name != AVERAGED);
        let wrapper =
            WRAPPERS.iter().find(|wrapper| names().count() > 0 && names().all(|name| name.starts_with(**wrapper)));
        let Some(wrapper) = wrapper else { return tensors };
        let inner =
            tensors.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(wrapper)?.to_owned(), tensor)));
        tensors = inner.collect();
    }
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
            // Eight bytes of header length, then the JSON header. First: a length of 640 begins like a pickle.
            [_, _, _, _, _, _, 0, 0, b'{', ..] => Some(Self::SafeTensors),
            [b'P', b'K', 3, 4, ..] => Some(Self::Zip),
            [0x80, 2..=5, ..] => Some(Self::Legacy),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_taken_off() {
        let tensors = |names: &[&str]| -> StateDict {
            names.iter().map(|name| ((*name).to_owned(), tch::Tensor::from(1.0f32))).collect()
        };
        let names = |given: &[&str]| unwrapped(tensors(given)).into_keys().collect::<Vec<_>>();
        assert_eq!(names(&["module.a", "module.b.c"]), ["a", "b.c"]);
        assert_eq!(names(&["module._orig_mod.a", "module._orig_mod.b"]), ["a", "b"]);
        assert_eq!(names(&["n_averaged", "module.a"]), ["a"]);
        assert_eq!(names(&["module.a", "head"]), ["module.a", "head"], "a model may have a part of that name");
        assert_eq!(names(&["n_averaged"]), ["n_averaged"]);
        assert!(names(&[]).is_empty());
    }

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
