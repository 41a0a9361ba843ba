//! The safetensors format: a JSON header, then the tensors' bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use ::safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};
use anyhow::{Context, Result, anyhow, bail};
use pipe_vocab::{atomic, files};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::types::Weights;
use crate::nn::StateDict;

/// Reads a safetensors file. The tensors come in the file's order.
///
/// # Errors
/// The file cannot be read, its header is malformed or does not match its length, or a type is unknown to libtorch.
pub fn read(path: &Path) -> Result<Weights> {
    let mut bytes = Vec::new();
    files::open(path)?.read_to_end(&mut bytes)?;
    let malformed = |error| anyhow!("not a valid safetensors file: {error}");
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

/// Writes `tensors` to `path` so that either the whole new file is there afterwards or the old one is untouched.
///
/// # Errors
/// The folder is absent or not writable, the disk is full, or a tensor's type cannot be stored; the message says which.
pub fn write(path: &Path, tensors: &StateDict, metadata: &BTreeMap<String, String>) -> Result<()> {
    let mut stored: Vec<_> = tensors.iter().map(|(name, tensor)| Stored::new(name, tensor)).collect::<Result<_>>()?;
    // The widest first, so that every tensor lies at a multiple of its element's size.
    stored.sort_by_key(|tensor| std::cmp::Reverse(tensor.element));
    let header = header(&stored, metadata)?;
    let fill = |file: &mut File| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for tensor in &stored {
            out.write_all(&tensor.bytes()?)?;
        }
        Ok(out.flush()?)
    };
    atomic::write_with(path, fill).map_err(|error| explain(error, path, tensors))
}

/// The JSON before the data, padded with spaces to a multiple of eight.
///
/// Not `safetensors::serialize`: that one holds a second copy of all tensors, cannot report that one could not be fetched
/// from the GPU, and puts the metadata down in an order that differs from run to run.
fn header(stored: &[Stored<'_>], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut end = 0;
    let mut infos = Vec::new();
    for tensor in stored {
        let start = end;
        end += tensor.length();
        let shape = tensor.shape.clone();
        let info = TensorInfo { dtype: tensor.dtype, shape, data_offsets: (start, end) };
        infos.push((tensor.name.to_owned(), info));
    }
    let metadata = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect());
    let mut header = serde_json::to_value(Metadata::new(metadata, infos)?)?;
    if let Some(metadata) = header.get_mut("__metadata__").and_then(Value::as_object_mut) {
        metadata.sort_keys();
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// Says what to do about a failed write.
fn explain(error: anyhow::Error, path: &Path, tensors: &StateDict) -> anyhow::Error {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    let hint = match cause.map(io::Error::kind) {
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            let bytes: usize = tensors.values().map(|t| t.numel() * t.kind().elt_size_in_bytes()).sum();
            format!(": the disk is full ({:.1} MB are needed); free some space", bytes as f64 / 1e6)
        }
        Some(io::ErrorKind::NotFound) => ": its folder does not exist".to_owned(),
        Some(io::ErrorKind::PermissionDenied) => ": its folder may not be written to".to_owned(),
        _ => String::new(),
    };
    error.context(format!("writing weights {}{hint}", path.display()))
}

/// A tensor about to be written; its bytes are fetched only then, one tensor at a time.
struct Stored<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    shape: Vec<usize>,
    dtype: Dtype,
    /// Bytes an element takes.
    element: usize,
}

impl<'a> Stored<'a> {
    fn new(name: &'a str, tensor: &'a Tensor) -> Result<Self> {
        let kind = tensor.f_kind()?;
        let Some(dtype) = dtype_of(kind) else { bail!("tensor `{name}` of type {kind:?} cannot be stored") };
        let shape = tensor.size().into_iter().map(usize::try_from).collect::<Result<_, _>>()?;
        Ok(Self { name, tensor, shape, dtype, element: kind.elt_size_in_bytes() })
    }

    fn length(&self) -> usize {
        self.tensor.numel() * self.element
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.length()];
        let fetched = self.tensor.f_detach().and_then(|tensor| {
            let local = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
            local.f_copy_data_u8(&mut bytes, local.numel())
        });
        fetched.with_context(|| format!("fetching tensor `{}`", self.name))?;
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
    use std::fs;

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
    fn a_full_disk_is_named() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::StorageFull)).context("half way");
        let text = explain(error, Path::new("w.safetensors"), &state()).to_string();
        assert!(text.contains("w.safetensors: the disk is full (0.0 MB are needed)"), "{text}");
    }

    #[test]
    fn equal_weights_make_equal_files() {
        let folder = tempfile::tempdir().unwrap();
        let metadata: BTreeMap<_, _> =
            ["format", "writer", "step", "by"].map(|key| (key.to_owned(), key.into())).into();
        let bytes: Vec<_> = (0..8)
            .map(|i| {
                let path = folder.path().join(format!("{i}.safetensors"));
                write(&path, &state(), &metadata).unwrap();
                fs::read(path).unwrap()
            })
            .collect();
        assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]));
    }

    /// Lengths whose first two bytes are also those of a pickle.
    #[test]
    fn headers_of_any_length_are_told_from_pickles() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        for length in [640u64, 896, 1152, 1408] {
            let with_note = |note: usize| {
                let metadata = BTreeMap::from([("note".to_owned(), "x".repeat(note))]);
                write(&path, &state(), &metadata).unwrap();
                u64::from_le_bytes(fs::read(&path).unwrap()[..8].try_into().unwrap())
            };
            let plain = with_note(0);
            assert_eq!(with_note((length - plain) as usize), length);
            assert_eq!(super::super::read(&path).unwrap().tensors.len(), 5, "{length}");
        }
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
            assert!(text.contains("not a valid safetensors file"), "{length}: {text}");
        }
    }
}
