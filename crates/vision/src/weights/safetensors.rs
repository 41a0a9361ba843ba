//! The safetensors format: a JSON header, then the tensors' bytes.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ::safetensors::tensor::{Dtype, SafeTensors};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::Weights;
use crate::nn::StateDict;

/// Reads a safetensors file. The tensors come in the file's order.
///
/// # Errors
/// The file cannot be read, its header is malformed or does not match its length, or a type is unknown to libtorch.
pub fn read(path: &Path) -> Result<Weights> {
    let bytes = fs::read(path)?;
    let malformed = |error| anyhow!("not a sound safetensors file: {error}");
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(malformed)?;
    let file = SafeTensors::deserialize(&bytes).map_err(malformed)?;
    let mut tensors = StateDict::new();
    for name in header.offset_keys() {
        let view = file.tensor(&name).map_err(malformed)?;
        let kind = kind_of(view.dtype())
            .with_context(|| format!("tensor `{name}` has type {:?}, which is not supported", view.dtype()))?;
        let shape = view.shape().iter().map(|size| i64::try_from(*size)).collect::<Result<Vec<_>, _>>()?;
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
            .with_context(|| format!("making tensor `{name}` of shape {shape:?}"))?;
        tensors.insert(name, tensor);
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok(Weights { tensors, metadata, found_under: None })
}

/// Writes `tensors` to `path` so that either the whole new file is there afterwards or the old one is untouched:
/// a temporary file beside it, flushed to the disk, then renamed.
///
/// # Errors
/// The folder is absent or not writable, the disk is full, or a tensor's type cannot be stored; the message says which.
pub fn write(path: &Path, tensors: &StateDict, metadata: &BTreeMap<String, String>) -> Result<()> {
    let mut stored: Vec<_> = tensors.iter().map(|(name, tensor)| Stored::new(name, tensor)).collect::<Result<_>>()?;
    // The widest first, so that every tensor lies at a multiple of its element's size.
    stored.sort_by_key(|tensor| std::cmp::Reverse(tensor.element));
    let header = header(&stored, metadata)?;
    replace(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for tensor in &stored {
            out.write_all(&tensor.bytes()?)?;
        }
        out.flush()
    })
    .map_err(|error| explain(error, path, tensors))
}

/// The JSON before the data: each tensor's type, shape and byte range, padded with spaces to a multiple of eight.
fn header(stored: &[Stored<'_>], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut fields = serde_json::Map::new();
    if !metadata.is_empty() {
        fields.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut offset = 0;
    for tensor in stored {
        let end = offset + tensor.length();
        let field = json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end] });
        fields.insert(tensor.name.to_owned(), field);
        offset = end;
    }
    let mut header = serde_json::to_vec(&fields)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// Says what a failed write means for the file and what to do about it.
fn explain(error: io::Error, path: &Path, tensors: &StateDict) -> anyhow::Error {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let bytes: usize = tensors.values().map(|t| t.numel() * t.kind().elt_size_in_bytes()).sum();
            format!(": the disk is full ({:.1} MB are needed); free some space", bytes as f64 / 1e6)
        }
        io::ErrorKind::NotFound => ": its folder does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => ": its folder may not be written to".to_owned(),
        _ => String::new(),
    };
    let kept = if path.exists() { " (the file that was there is unchanged)" } else { "" };
    anyhow::Error::new(error).context(format!("writing weights {}{hint}{kept}", path.display()))
}

/// Lets `fill` write a temporary file beside `path`, then puts it in `path`'s place. On failure it is removed.
fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let result = OpenOptions::new().write(true).create_new(true).open(&temporary).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(path)
    });
    if result.is_err() {
        // The error that matters is the first; the leftover may not exist.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// A name in the same folder that no other process or thread uses.
fn temporary_beside(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    path.with_file_name(format!(".{name}.{unique}.tmp"))
}

/// Makes the rename itself durable, where folders can be flushed.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// A tensor about to be written; its bytes are fetched only then, one tensor at a time.
struct Stored<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    shape: Vec<i64>,
    dtype: Dtype,
    /// Bytes an element takes.
    element: usize,
}

impl<'a> Stored<'a> {
    fn new(name: &'a str, tensor: &'a Tensor) -> Result<Self> {
        let kind = tensor.f_kind()?;
        let Some(dtype) = dtype_of(kind) else { bail!("tensor `{name}` of type {kind:?} cannot be stored") };
        Ok(Self { name, tensor, shape: tensor.size(), dtype, element: kind.elt_size_in_bytes() })
    }

    fn length(&self) -> usize {
        self.tensor.numel() * self.element
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.length()];
        let fetched = self.tensor.f_detach().and_then(|tensor| {
            let local = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
            local.f_copy_data_u8(&mut bytes, local.numel())
        });
        fetched.map_err(|error| io::Error::other(format!("fetching `{}`: {error}", self.name)))?;
        Ok(bytes)
    }
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    PAIRS.iter().find(|(_, stored)| *stored == dtype).map(|(kind, _)| *kind)
}

fn dtype_of(kind: Kind) -> Option<Dtype> {
    PAIRS.iter().find(|(live, _)| *live == kind).map(|(_, dtype)| *dtype)
}

const PAIRS: [(Kind, Dtype); 10] = [
    (Kind::Float, Dtype::F32),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Double, Dtype::F64),
    (Kind::Int64, Dtype::I64),
    (Kind::Int, Dtype::I32),
    (Kind::Int16, Dtype::I16),
    (Kind::Int8, Dtype::I8),
    (Kind::Uint8, Dtype::U8),
    (Kind::Bool, Dtype::BOOL),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> StateDict {
        let mut state = StateDict::new();
        state.insert("z.weight".into(), Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([2, 2]).tr());
        state.insert("counter".into(), Tensor::from(9i64));
        state.insert("half".into(), Tensor::from_slice(&[0.5f32, -1.5]).to_kind(Kind::BFloat16));
        state.insert("empty".into(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu)));
        state.insert("flags".into(), Tensor::from_slice(&[true, false]));
        state
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let metadata = BTreeMap::from([("epoch".to_owned(), "3".to_owned())]);
        write(&path, &state(), &metadata).unwrap();
        let back = super::super::read(&path).unwrap();
        assert_eq!(back.metadata, metadata);
        assert_eq!(back.tensors.len(), 5);
        for (name, tensor) in state() {
            assert_eq!(back.tensors[&name].kind(), tensor.kind(), "{name}");
            assert_eq!(back.tensors[&name], tensor, "{name}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        fs::write(&path, "old").unwrap();
        let error = replace(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        let text = explain(error.unwrap_err(), &path, &state()).to_string();
        assert!(text.contains("the disk is full") && text.contains("unchanged"), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn an_absent_folder_is_named() {
        let text = write(Path::new("absent/w.safetensors"), &state(), &BTreeMap::new()).unwrap_err().to_string();
        assert_eq!(text, "writing weights absent/w.safetensors: its folder does not exist");
    }

    #[test]
    fn damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        write(&path, &state(), &BTreeMap::new()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in [9, 40, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let text = format!("{:#}", super::super::read(&path).unwrap_err());
            assert!(text.contains("not a sound safetensors file"), "{length}: {text}");
        }
    }
}
