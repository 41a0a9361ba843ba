//! What `torch.save` wrote: a state dict, or a checkpoint that holds one.
//!
//! Since PyTorch 1.6 a zip archive of stored entries: `<name>/data.pkl` describes, `<name>/data/<key>` hold the bytes
//! of the storages. Before, a sequence of pickles followed by the storages. Formats as in `torch/serialization.py`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};

use anyhow::{Context, Result, anyhow, bail, ensure};
use indexmap::IndexMap;
use tch::{Kind, Tensor};
use zip::ZipArchive;

use super::pickle::{self, Id, Pickle, Value};
use super::types::Weights;
use crate::nn::StateDict;

/// Keys under which checkpoints keep a model's state dict, in the order tried.
const CONTAINERS: [&str; 9] =
    ["model", "state_dict", "model_state_dict", "module", "model_state", "state_dict_ema", "model_ema", "ema", "net"];
/// The number old files begin with, as `torch.serialization.MAGIC_NUMBER` pickled: ten bytes, little-endian.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Tensors may be views of one storage, and entries of an archive may be packed or overlap: together they may take this many
/// times the bytes that stand in the file, and [`SPARE`] more.
const FACTOR: u64 = 8;
/// Bytes that any file may unfold to.
const SPARE: u64 = 64 << 20;
/// Longer names are not a model's.
const MAX_NAME: usize = 4096;

/// Bytes that reading may still make of a file.
struct Room(u64);

impl Room {
    fn of(file: u64) -> Self {
        Self(file.saturating_mul(FACTOR).saturating_add(SPARE))
    }

    fn spend(&mut self, bytes: u64) -> Result<()> {
        let rest = self.0.checked_sub(bytes);
        self.0 = rest.with_context(|| {
            format!("the file unfolds to more than {FACTOR} times its size and {} MiB, as no model's does", SPARE >> 20)
        })?;
        Ok(())
    }
}

/// Reads a zip archive made by `torch.save`.
///
/// # Errors
/// The archive is damaged, was made by something else, or holds no state dict.
pub fn read_zip(file: File) -> Result<Weights> {
    let length = file.metadata()?.len();
    let mut room = Room::of(length);
    let mut archive = ZipArchive::new(BufReader::new(file))
        .map_err(|error| anyhow!("not a valid zip archive ({error}): the file may be truncated"))?;
    let described = archive.file_names().find(|name| name.ends_with("/data.pkl") || *name == "data.pkl");
    let described = described.map(str::to_owned).context("a zip archive, but not one that torch.save made")?;
    let root = described.trim_end_matches("data.pkl").to_owned();
    if archive.file_names().any(|name| name.starts_with(&format!("{root}code/"))) {
        bail!("a TorchScript program, not weights; save `module.state_dict()` with torch.save instead");
    }
    let order = entry(&mut archive, &format!("{root}byteorder"), &mut room).unwrap_or_default();
    ensure!(order != b"big", "written on a big-endian machine; save it again on a little-endian one");
    let (pickle, _) = pickle::read(&entry(&mut archive, &described, &mut room)?)?;
    let fetch = |storage: &Storage| entry(&mut archive, &format!("{root}data/{}", storage.key), &mut room);
    state_dict(&pickle, Room::of(length), fetch)
}

fn entry(archive: &mut ZipArchive<BufReader<File>>, name: &str, room: &mut Room) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = archive.by_name(name).map_err(|error| anyhow!("entry `{name}` of the archive: {error}"))?;
    let context = || format!("entry `{name}` of the archive");
    // The size that stands in the archive may be a lie.
    file.take(room.0.saturating_add(1)).read_to_end(&mut bytes).with_context(context)?;
    room.spend(bytes.len() as u64).with_context(context)?;
    Ok(bytes)
}

/// Reads a file made by `torch.save` before PyTorch 1.6.
///
/// # Errors
/// The file is damaged, was made by something else, or holds no state dict.
pub fn read_legacy(mut file: File) -> Result<Weights> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut at = 0;
    let mut next = || {
        let (pickle, length) = pickle::read(&bytes[at..])?;
        at += length;
        anyhow::Ok(pickle)
    };
    let magic = next()?;
    let is_torch = matches!(magic.get(magic.root), Value::Bytes(number) if *number == LEGACY_MAGIC);
    ensure!(is_torch, "a pickle, but not one that torch.save made");
    // The protocol and the machine it was written on, both of no interest; then the object and the storages' order.
    let (_protocol, _machine, object, keys) = (next()?, next()?, next()?, next()?);
    let mut storages = legacy_storages(&object, &keys, &bytes[at..])?;
    state_dict(&object, Room::of(bytes.len() as u64), |storage| {
        storages.remove(&storage.key).with_context(|| format!("storage {} is not in the file", storage.key))
    })
}

/// Cuts the storages from the end of an old file: for each key a count of elements, then the elements.
fn legacy_storages(object: &Pickle, keys: &Pickle, mut rest: &[u8]) -> Result<HashMap<String, Vec<u8>>> {
    let sizes = object_storages(object)?;
    let keys = keys.sequence(keys.root).context("the list of storages is missing")?.iter().map(|id| keys.text(*id));
    let mut storages = HashMap::new();
    for key in keys {
        let key = key.context("a storage without a name")?;
        let kind = sizes.get(key).with_context(|| format!("storage {key} has no type"))?.kind;
        let cut = "the storages are truncated: the file is incomplete";
        let (count, after) = rest.split_first_chunk::<8>().context(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*count))?.checked_mul(kind.elt_size_in_bytes());
        let length = length.filter(|length| *length <= after.len()).context(cut)?;
        storages.insert(key.to_owned(), after[..length].to_owned());
        rest = &after[length..];
    }
    Ok(storages)
}

/// Every storage that a pickle mentions, by key.
fn object_storages(pickle: &Pickle) -> Result<HashMap<String, Storage>> {
    let storages = pickle.values().filter(|value| matches!(value, Value::Persistent(_)));
    storages.map(|value| Storage::of(pickle, value).map(|storage| (storage.key.clone(), storage))).collect()
}

/// Bytes outside the pickle that tensors are views of.
#[derive(Debug, Clone)]
struct Storage {
    key: String,
    kind: Kind,
}

impl Storage {
    /// From `("storage", torch.FloatStorage, key, location, count, …)`.
    fn of(pickle: &Pickle, value: &Value) -> Result<Self> {
        let parts = match value {
            Value::Persistent(id) => pickle.sequence(*id),
            _ => None,
        };
        let [tag, class, key, ..] = parts.context("a tensor without a storage")? else {
            bail!("a storage without a description")
        };
        ensure!(pickle.text(*tag) == Some("storage"), "an object kept outside the pickle that is no storage");
        let Value::Global(class) = pickle.get(*class) else { bail!("a storage without a type") };
        let kind = storage_kind(class).with_context(|| format!("storage type `{class}` is not supported"))?;
        let key = pickle.text(*key).context("a storage without a name")?;
        ensure!(key.len() <= MAX_NAME, "a storage with a name of {} bytes", key.len());
        Ok(Self { key: key.to_owned(), kind })
    }
}

/// The element type of a storage class.
fn storage_kind(class: &str) -> Option<Kind> {
    Some(match class.strip_prefix("torch.").unwrap_or(class).trim_start_matches("cuda.") {
        "FloatStorage" => Kind::Float,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "DoubleStorage" => Kind::Double,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" | "storage.UntypedStorage" | "UntypedStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        _ => return None,
    })
}

/// The tensors of the state dict in `pickle`, fetching each storage once.
fn state_dict(pickle: &Pickle, room: Room, fetch: impl FnMut(&Storage) -> Result<Vec<u8>>) -> Result<Weights> {
    let (found_under, entries) = find_state_dict(pickle)?;
    let mut builder = Builder { pickle, fetch, storages: HashMap::new(), room };
    let mut tensors = StateDict::new();
    for (name, id) in &entries {
        let tensor = builder.tensor(*id).with_context(|| format!("tensor `{name}`"))?;
        tensors.insert(name.clone(), tensor);
    }
    Ok(Weights { tensors, metadata: Default::default(), found_under })
}

type Entries = IndexMap<String, Id>;

/// The dict of tensors: the root itself, or what a checkpoint keeps under one of the customary keys.
fn find_state_dict(pickle: &Pickle) -> Result<(Option<String>, Entries)> {
    let root = pickle.dict(pickle.root).context(
        "holds no dict of tensors (a whole pickled module?): save `model.state_dict()` with torch.save instead",
    )?;
    // A checkpoint may have tensors beside the weights, such as a best accuracy: fewer than those have.
    let top = tensors_of(pickle, root);
    let beside = top.as_ref().map_or(0, Entries::len);
    let keyed = |wanted: &str| root.iter().find(|(key, _)| pickle.text(*key) == Some(wanted));
    for key in CONTAINERS {
        let inner = keyed(key).and_then(|(_, value)| pickle.dict(*value));
        if let Some(entries) = inner.and_then(|inner| tensors_of(pickle, inner)).filter(|own| own.len() >= beside) {
            return Ok((Some(key.to_owned()), entries));
        }
    }
    if let Some(entries) = top {
        return Ok((None, entries));
    }
    let keys: Vec<_> = root.iter().filter_map(|(key, _)| pickle.text(*key)).take(12).collect();
    bail!(
        "holds no state dict: looked at the top and under {}; its keys are: {}",
        CONTAINERS.join(", "),
        keys.join(", ")
    )
}

/// The tensors in a dict by name, other entries left out; `None` where there is none.
fn tensors_of(pickle: &Pickle, dict: &[(Id, Id)]) -> Option<Entries> {
    let tensors = dict.iter().filter_map(|(key, value)| {
        let is_tensor =
            matches!(pickle.get(*value), Value::Call(name, _) if name.starts_with("torch._utils._rebuild_"));
        let key = || pickle.text(*key).filter(|key| key.len() <= MAX_NAME);
        is_tensor.then(|| key().map(|key| (key.to_owned(), *value)))?
    });
    let entries: Entries = tensors.collect();
    (!entries.is_empty()).then_some(entries)
}

struct Builder<'a, F> {
    pickle: &'a Pickle,
    fetch: F,
    /// The bytes of each storage seen, with their type: tensors may share one.
    storages: HashMap<String, Vec<u8>>,
    room: Room,
}

impl<F: FnMut(&Storage) -> Result<Vec<u8>>> Builder<'_, F> {
    fn tensor(&mut self, id: Id) -> Result<Tensor> {
        let Value::Call(function, arguments) = self.pickle.get(id) else { bail!("is not a tensor") };
        let arguments = self.pickle.sequence(*arguments).context("its description is malformed")?;
        match (function.as_str(), arguments) {
            ("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", [data, ..])
                // One level only: a parameter of a parameter is not made by torch.
                if !matches!(self.pickle.get(*data), Value::Call(name, _) if name.contains("_parameter")) =>
            {
                self.tensor(*data)
            }
            ("torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", [storage, offset, size, stride, ..]) => {
                self.view(*storage, None, (*offset, *size, *stride))
            }
            ("torch._utils._rebuild_tensor_v3", [storage, offset, size, stride, _, _, kind, ..]) => {
                self.view(*storage, Some(*kind), (*offset, *size, *stride))
            }
            _ => bail!("is of a sort that is not supported (`{function}`); only dense tensors are"),
        }
    }

    fn view(&mut self, storage: Id, kind: Option<Id>, (offset, size, stride): (Id, Id, Id)) -> Result<Tensor> {
        let pickle = self.pickle;
        let storage = Storage::of(pickle, pickle.get(storage))?;
        let kind = match kind.map(|id| pickle.get(id)) {
            None => storage.kind,
            Some(Value::Global(name)) => dtype(name).with_context(|| format!("type `{name}` is not supported"))?,
            Some(_) => bail!("its type is malformed"),
        };
        let ints = |id| pickle.sequence(id)?.iter().map(|id| pickle.int(*id)).collect::<Option<Vec<i64>>>();
        let (size, stride) = ints(size).zip(ints(stride)).context("its shape is malformed")?;
        let offset = pickle.int(offset).context("its offset is malformed")?;
        if !self.storages.contains_key(&storage.key) {
            let bytes = (self.fetch)(&storage)?;
            self.storages.insert(storage.key.clone(), bytes);
        }
        let bytes = &self.storages[&storage.key];
        let element = kind.elt_size_in_bytes();
        let part = span(bytes.len() / element, offset, &size, &stride)?;
        let length = i64::try_from(part.len())?;
        let part = &bytes[part.start * element..part.end * element];
        self.room.spend(part.len() as u64)?;
        let flat = Tensor::f_from_data_size(part, &[length], kind)?;
        Ok(flat.f_as_strided(&size, &stride, 0)?.f_contiguous()?)
    }
}

/// The elements of a storage that a view touches, from its first to its last.
/// Refuses a view that leaves its storage or is larger than it (a few bytes must not claim gigabytes).
fn span(elements: usize, offset: i64, size: &[i64], stride: &[i64]) -> Result<std::ops::Range<usize>> {
    let sound = size.len() == stride.len() && offset >= 0 && size.iter().chain(stride).all(|n| *n >= 0);
    let count = size.iter().try_fold(1i64, |product, n| product.checked_mul(*n));
    let steps = size.iter().zip(stride).try_fold(0i64, |at, (n, step)| at.checked_add((n - 1).checked_mul(*step)?));
    let range = count.zip(steps).filter(|_| sound).and_then(|(count, steps)| {
        let start = usize::try_from(offset).ok()?;
        let length = if count == 0 { 0 } else { usize::try_from(steps).ok()?.checked_add(1)? };
        let end = start.checked_add(length)?;
        (end <= elements && usize::try_from(count).ok()? <= length).then_some(start..end)
    });
    range.with_context(|| {
        format!("shape {size:?} with strides {stride:?} at {offset} exceeds its storage of {elements} elements")
    })
}

/// The type behind `torch.float32` and its like.
fn dtype(name: &str) -> Option<Kind> {
    Some(match name.strip_prefix("torch.")? {
        "float32" => Kind::Float,
        "float16" => Kind::Half,
        "bfloat16" => Kind::BFloat16,
        "float64" => Kind::Double,
        "int64" => Kind::Int64,
        "int32" => Kind::Int,
        "int16" => Kind::Int16,
        "int8" => Kind::Int8,
        "uint8" => Kind::Uint8,
        "bool" => Kind::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn sample(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/weights").join(name)
    }

    fn error_of(name: &str) -> String {
        format!("{:#}", super::super::read(&sample(name)).unwrap_err())
    }

    fn assert_expected(weights: &Weights) {
        let text = std::fs::read_to_string(sample("expected.json")).unwrap();
        let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(weights.tensors.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, wanted) in &expected {
            let tensor = &weights.tensors[name];
            assert_eq!(Some(tensor.kind()), dtype(&format!("torch.{}", wanted["kind"].as_str().unwrap())), "{name}");
            let shape: Vec<i64> = serde_json::from_value(wanted["shape"].clone()).unwrap();
            assert_eq!(tensor.size(), shape, "{name}");
            let values: Vec<f64> = serde_json::from_value(wanted["values"].clone()).unwrap();
            let have: Vec<f64> = tensor.to_kind(Kind::Double).flatten(0, -1).try_into().unwrap();
            assert_eq!(have.len(), values.len(), "{name}");
            // The JSON reader may miss the last bit of a double.
            let near = |(have, want): (&f64, &f64)| (have - want).abs() <= want.abs() * 1e-15;
            assert!(have.iter().zip(&values).all(near), "{name}: {have:?} {values:?}");
        }
    }

    #[test]
    fn state_dicts_of_all_ages_and_wrappings() {
        for (file, under) in [("state_dict.pth", None), ("legacy.pth", None), ("checkpoint.pth", Some("model"))] {
            let weights = super::super::read(&sample(file)).unwrap_or_else(|error| panic!("{file}: {error:#}"));
            assert_eq!(weights.found_under.as_deref(), under, "{file}");
            assert_expected(&weights);
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert!(error_of("module.pth").contains("a whole pickled module?"));
        assert!(error_of("script.pth").contains("a TorchScript program, not weights"));
        assert!(error_of("no_weights.pth").ends_with("its keys are: epoch"), "{}", error_of("no_weights.pth"));
        assert!(error_of("sparse.pth").contains("tensor `w`: is of a sort that is not supported"));
    }

    #[test]
    fn damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.pth");
        for file in ["state_dict.pth", "legacy.pth"] {
            let whole = std::fs::read(sample(file)).unwrap();
            for length in (20..whole.len()).step_by(whole.len() / 23) {
                std::fs::write(&path, &whole[..length]).unwrap();
                assert!(super::super::read(&path).is_err(), "{file} cut at {length}");
            }
            for at in (0..whole.len()).step_by(7) {
                let mut broken = whole.clone();
                broken[at] ^= 0x55;
                std::fs::write(&path, &broken).unwrap();
                // It may still be readable; it must not panic.
                let _ = super::super::read(&path);
            }
        }
    }

    /// Thousands of views of one storage, packed into a few kilobytes.
    #[test]
    fn a_file_does_not_unfold_without_end() {
        use std::io::Write;

        let name = |at: usize| [&b"X\x04\0\0\0"[..], format!("{at:04}").as_bytes()].concat();
        let mut pickle = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\0\
            (X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ\0\0\x10\0tq\x010}("
            .to_vec();
        for at in 0..200 {
            pickle.extend(name(at));
            // The function, then (storage, 0, (1 << 20,), (1,), False, None).
            pickle.extend(b"h\0(h\x01QK\0J\0\0\x10\0\x85K\x01\x85\x89NtR");
        }
        pickle.extend(b"u.");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("views.pth");
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        let stored = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, bytes) in [("a/data.pkl", &pickle[..]), ("a/data/0", &vec![0; 4 << 20])] {
            archive.start_file(name, stored).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
        let error = format!("{:#}", super::super::read(&path).unwrap_err());
        assert!(error.contains("unfolds to more than 8 times its size"), "{error}");
    }

    #[test]
    fn views_stay_within_their_storage() {
        assert_eq!(span(12, 4, &[4], &[1]).unwrap(), 4..8);
        assert_eq!(span(12, 0, &[4, 3], &[1, 4]).unwrap(), 0..12);
        assert_eq!(span(12, 12, &[0, 4], &[4, 1]).unwrap(), 12..12);
        assert_eq!(span(1, 0, &[], &[]).unwrap(), 0..1);
        for (offset, size, stride) in [
            (1, vec![12], vec![1]),
            (-1, vec![2], vec![1]),
            (0, vec![1 << 40], vec![0]),
            (0, vec![i64::MAX, i64::MAX], vec![1, 1]),
            (0, vec![2], vec![1, 1]),
        ] {
            assert!(span(12, offset, &size, &stride).is_err(), "{offset} {size:?} {stride:?}");
        }
    }
}
