//! Handwritten digits and other datasets in MNIST's file format.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use pipe_coco::synthetic::{DigitsSpec, write_digits};
use pipe_core::Dataset;
use pipe_core::facts::{Contents, Facts, Reads};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, PathValue, Property, PropertyType};
use pipe_data::{Extent, Field, Fingerprint, Image, Sample, fields};
use pipe_vocab::files;

/// Values of one file: 1 GiB.
const MAX_VALUES: usize = 1 << 30;

/// Grayscale images of one digit each, in MNIST's file format (also Fashion-MNIST, KMNIST, QMNIST's first files).
///
/// `root` holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k`, each also with `.gz`, or
/// in a folder `MNIST/raw` as torchvision leaves them. `builtin:digits` needs no files: a set of drawn digits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MnistConfig {
    /// Folder of the files, or `builtin:digits`.
    pub root: PathValue,
    /// The split.
    #[serde(default)]
    pub split: Split,
    /// Use only the first samples, this many.
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub limit: Option<usize>,
    /// Class names by label; the digits by default.
    #[serde(default)]
    pub class_names: Option<Vec<String>>,
}

/// A split of MNIST.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The 60,000 training images.
    #[default]
    Train,
    /// The 10,000 test images.
    Test,
}

impl Config for MnistConfig {
    const KIND: Kind = Kind::Dataset;
    const TYPE: &'static str = "mnist";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "mnist"
root = "builtin:digits"
split = "train"
"#;

    fn facts(&self) -> Facts {
        Facts {
            reads: Some(Reads { what: format!("{} {:?}", self.root.as_str(), self.split), part: None }),
            limited: self.limit.is_some(),
            mirrored: self.class_names.is_none().then_some("digits"),
            ..Facts::default()
        }
    }

    fn properties() -> &'static [Property] {
        &[
            Property { name: "num_classes", ty: PropertyType::Integer, doc: "Number of classes." },
            Property { name: "class_names", ty: PropertyType::Strings, doc: "Class names by label." },
        ]
    }

    fn contract(&self) -> Contract {
        Contract::default().adds([fields::IMAGE, fields::LABEL, fields::SOURCE])
    }
}

impl Component for MnistConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let root = match self.root.builtin() {
            None => PathBuf::from(self.root.as_str()),
            Some("digits") => {
                let root = pipe_vocab::cache::dir()?.join("digits");
                write_digits(&root, &DigitsSpec::default())?;
                root
            }
            Some(other) => bail!("there is no builtin dataset `{other}` in MNIST format; available: `builtin:digits`"),
        };
        Ok(Instance::dataset(Mnist::open(&root, self.split, self.limit, self.class_names)?))
    }
}

pipe_core::register!(MnistConfig);

/// See [`MnistConfig`].
pub struct Mnist {
    name: String,
    height: usize,
    width: usize,
    pixels: Vec<u8>,
    labels: Vec<u8>,
    classes: Vec<String>,
}

impl Mnist {
    /// Reads the two files of a split.
    ///
    /// # Errors
    /// When they are missing, truncated, or differ in length.
    pub fn open(root: &Path, split: Split, limit: Option<usize>, classes: Option<Vec<String>>) -> Result<Mnist> {
        let prefix = match split {
            Split::Train => "train",
            Split::Test => "t10k",
        };
        let images_path = find(root, &format!("{prefix}-images-idx3-ubyte"))?;
        let (sizes, mut pixels) = read_idx(&images_path)?;
        let [count, height, width] = sizes[..] else {
            bail!("{} has {} dimensions; a file of images has 3", images_path.display(), sizes.len());
        };
        ensure!(height > 0 && width > 0, "{} has images of {height} × {width} pixels", images_path.display());
        let labels_path = find(root, &format!("{prefix}-labels-idx1-ubyte"))?;
        let (sizes, mut labels) = read_idx(&labels_path)?;
        ensure!(
            sizes == [count],
            "{} has {count} images, but {} has {} labels",
            images_path.display(),
            labels_path.display(),
            labels.len()
        );
        let kept = limit.map_or(count, |limit| limit.min(count));
        labels.truncate(kept);
        pixels.truncate(kept * height * width);
        let largest = labels.iter().copied().max().map_or(0, usize::from);
        let classes = classes.unwrap_or_else(|| (0..largest.max(9) + 1).map(|digit| digit.to_string()).collect());
        ensure!(
            largest < classes.len(),
            "{} has the label {largest}, but `class_names` has only {} names",
            labels_path.display(),
            classes.len()
        );
        Ok(Mnist { name: images_path.display().to_string(), height, width, pixels, labels, classes })
    }
}

impl Dataset for Mnist {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let size = self.height * self.width;
        let pixels = self.pixels[index * size..(index + 1) * size].to_vec();
        Ok(Sample::new()
            .with(fields::IMAGE, Field::Image(Image::from_u8(self.height, self.width, 1, pixels)))
            .with(fields::LABEL, Field::Integer(i64::from(self.labels[index])))
            .with(fields::SOURCE, Field::Text(format!("{} [{index}]", self.name))))
    }

    fn property(&self, name: &str) -> Result<Value> {
        match name {
            "num_classes" => Ok(self.classes.len().into()),
            "class_names" => Ok(json!(self.classes)),
            _ => bail!("MNIST has no property `{name}`"),
        }
    }

    fn extent(&self, _index: usize) -> Option<Extent> {
        Some(Extent { height: self.height, width: self.width, objects: 0 })
    }

    fn classes(&self, index: usize) -> Option<Vec<i64>> {
        Some(vec![i64::from(*self.labels.get(index)?)])
    }

    fn contents(&self) -> Option<Contents> {
        Some(Contents::of_labels(self.labels.iter().copied().map(i64::from)))
    }

    fn fingerprint(&self) -> Option<String> {
        Some(Fingerprint::of(&self.labels).with(&self.pixels).text())
    }

    fn class_names(&self) -> Vec<(i64, String)> {
        self.classes.iter().enumerate().map(|(label, name)| (label as i64, name.clone())).collect()
    }
}

/// The file of that name, plain or gzipped, in `root` or where torchvision puts it.
fn find(root: &Path, name: &str) -> Result<PathBuf> {
    let folders = [root.to_owned(), root.join("MNIST").join("raw"), root.join("raw")];
    let candidates = folders.iter().flat_map(|folder| [folder.join(name), folder.join(format!("{name}.gz"))]);
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| {
            let root = root.display();
            format!("there is no {name} or {name}.gz in {root}: put MNIST's files there, or set `root`, which can be `builtin:digits`")
        })
}

/// Sizes and bytes of an IDX file (magic number `0 0 8 n`, `n` sizes of 4 bytes each, bytes; big-endian).
fn read_idx(path: &Path) -> Result<(Vec<usize>, Vec<u8>)> {
    let file = files::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let file = BufReader::new(file);
    let read = if path.extension().is_some_and(|extension| extension == "gz") {
        parse_idx(GzDecoder::new(file))
    } else {
        parse_idx(file)
    };
    read.with_context(|| format!("{} is not a complete IDX file of bytes", path.display()))
}

/// What the header announces is read and no more: a packed file may unfold to a thousand times its size.
fn parse_idx(mut reader: impl Read) -> Result<(Vec<usize>, Vec<u8>)> {
    let mut take = |bytes: &mut [u8]| reader.read_exact(bytes).context("its header is truncated");
    let mut magic = [0; 4];
    take(&mut magic)?;
    let [0, 0, kind, dimensions] = magic else { bail!("it does not start with two zero bytes") };
    ensure!(kind == 8, "its values are of type {kind:#04x}, not bytes (0x08)");
    let mut sizes = vec![0; 4 * usize::from(dimensions)];
    take(&mut sizes)?;
    let sizes: Vec<usize> = sizes.as_chunks::<4>().0.iter().map(|&size| u32::from_be_bytes(size) as usize).collect();
    let values = sizes.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
    let values = values.filter(|values| *values <= MAX_VALUES);
    let values =
        values.with_context(|| format!("its dimensions {sizes:?} are too large: more than {MAX_VALUES} values"))?;
    let mut bytes = Vec::new();
    reader.take(values as u64 + 1).read_to_end(&mut bytes)?;
    let present = bytes.len();
    ensure!(present <= values, "it should hold {values} values ({sizes:?}), but holds more");
    ensure!(present == values, "it should hold {values} values ({sizes:?}), but holds {present}");
    Ok((sizes, bytes))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::dataset::testing::{dataset, error};
    use std::io::Write;

    fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn folder(images: &[u8], labels: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("t10k-images-idx3-ubyte"), images).unwrap();
        let file = File::create(root.path().join("t10k-labels-idx1-ubyte.gz")).unwrap();
        flate2::write::GzEncoder::new(file, flate2::Compression::fast()).write_all(labels).unwrap();
        root
    }

    #[test]
    fn plain_and_packed_files_are_read() {
        let pixels: Vec<u8> = (0..24).collect();
        let root = folder(&idx(&[2, 3, 4], &pixels), &idx(&[2], &[7, 2]));
        let set = dataset("mnist", json!({ "root": root.path(), "split": "test" })).unwrap();
        assert_eq!(set.len(), 2);
        let sample = set.get(1).unwrap();
        assert_eq!(sample.image().unwrap(), &Image::from_u8(3, 4, 1, pixels[12..].to_vec()));
        assert_eq!(sample.get(fields::LABEL), Some(&Field::Integer(2)));
        assert_eq!(set.property("num_classes").unwrap(), 10);
        let limited = dataset("mnist", json!({ "root": root.path(), "split": "test", "limit": 1 })).unwrap();
        assert_eq!(limited.len(), 1);
    }

    #[test]
    fn damaged_files_are_named() {
        let root = folder(&idx(&[2, 3, 4], &[0; 23]), &idx(&[2], &[7, 2]));
        let config = json!({ "root": root.path(), "split": "test" });
        let message = error("mnist", config.clone());
        assert!(message.contains("t10k-images-idx3-ubyte is not a complete IDX file"), "{message}");
        assert!(message.contains("should hold 24 values ([2, 3, 4]), but holds 23"), "{message}");
        // Labels that unfold to more than they announce are not unfolded.
        let root = folder(&idx(&[2, 3, 4], &[0; 24]), &idx(&[2], &[0; 50_000_000]));
        let message = error("mnist", json!({ "root": root.path(), "split": "test" }));
        assert!(message.contains("should hold 2 values ([2]), but holds more"), "{message}");
        let root = folder(&idx(&[2, 3, 4], &[0; 24]), &idx(&[3], &[7, 2, 1]));
        assert!(error("mnist", json!({ "root": root.path(), "split": "test" })).contains("2 images, but"));
        assert!(error("mnist", json!({ "root": root.path() })).contains("there is no train-images-idx3-ubyte"));
        for bytes in [vec![], vec![0, 0, 8], vec![0, 0, 13, 1, 0, 0, 0, 0], idx(&[u32::MAX; 9], &[])] {
            assert!(parse_idx(&bytes[..]).is_err());
        }
    }
}
