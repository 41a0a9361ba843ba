//! Images and labels in arrays of NumPy.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind as Element, Tensor};
use zip::ZipArchive;

use pipe_core::facts::{Contents, Facts, Reads};
use pipe_core::{
    BuildContext, Component, Config, Contract, Dataset, Instance, Kind, PathValue, Problems, Property, PropertyType,
};
use pipe_data::{Field, Fingerprint, Image, Sample, fields};
use pipe_vocab::files;

/// Images and labels in arrays of NumPy: `images.npy`, or `data.npz:NAME` for an array of an archive.
///
/// Images are `[N, H, W]` or `[N, H, W, C]` with one or three channels, bytes, or floating-point numbers from 0 to 1. Labels are
/// whole numbers, `[N]` or `[N, 1]`. The arrays are read into memory.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumpyConfig {
    /// The images.
    pub images: PathValue,
    /// Their labels.
    pub labels: PathValue,
    /// The classes in the order of their labels. Default: the labels' numbers.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub class_names: Option<Vec<String>>,
}

impl Config for NumpyConfig {
    const KIND: Kind = Kind::Dataset;
    const TYPE: &'static str = "numpy";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "numpy"
images = "data/pathmnist.npz:train_images"
labels = "data/pathmnist.npz:train_labels"
"#;

    fn facts(&self) -> Facts {
        Facts { reads: Some(Reads { what: self.images.as_str().into(), part: None }), ..Facts::default() }
    }

    fn properties() -> &'static [Property] {
        &[
            Property {
                name: "num_classes",
                ty: PropertyType::Integer,
                doc: "Number of `class_names`, else the largest label plus 1.",
            },
            Property { name: "class_names", ty: PropertyType::Strings, doc: "Class names by label." },
        ]
    }

    fn check(&self, problems: &mut Problems) {
        for (option, value) in [("images", &self.images), ("labels", &self.labels)] {
            if parts(value.as_str()).is_none() {
                problems.at(option, "not the name of an array", "`FILE.npy`, or `FILE.npz:NAME`");
            }
        }
    }

    fn contract(&self) -> Contract {
        Contract::default().adds([fields::IMAGE, fields::LABEL, fields::ORIGINAL_SIZE, fields::SOURCE])
    }
}

impl Component for NumpyConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::dataset(Numpy::open(&self)?))
    }
}

pipe_core::register!(NumpyConfig);

/// The file, and the name of the array in it.
fn parts(text: &str) -> Option<(&Path, Option<&str>)> {
    match text.rsplit_once(':') {
        Some((file, name)) if file.ends_with(".npz") && !name.is_empty() => Some((Path::new(file), Some(name))),
        _ => text.ends_with(".npy").then_some((Path::new(text), None)),
    }
}

fn array(value: &PathValue) -> Result<Tensor> {
    let (file, name) = parts(value.as_str()).context("it is not the name of an array")?;
    files::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let read = || -> Result<Tensor> {
        let Some(name) = name else { return Ok(Tensor::read_npy(file)?) };
        // Only this one: others may be of types that are no tensor.
        let mut archive = ZipArchive::new(files::open(file)?)?;
        let mut names: Vec<String> =
            archive.file_names().map(|name| name.trim_end_matches(".npy").to_owned()).collect();
        // They come in any order.
        names.sort_unstable();
        ensure!(names.iter().any(|own| own == name), "it has no array `{name}`, but: {}", names.join(", "));
        let mut alone = tempfile::Builder::new().suffix(".npy").tempfile()?;
        std::io::copy(&mut archive.by_name(&format!("{name}.npy"))?, &mut alone)?;
        Ok(Tensor::read_npy(alone.path())?)
    };
    read().with_context(|| format!("cannot read {}", file.display()))
}

/// See [`NumpyConfig`].
struct Numpy {
    /// All images, one after another.
    pixels: Vec<u8>,
    /// Height, width and channels of each.
    shape: [usize; 3],
    labels: Vec<i64>,
    classes: Vec<String>,
    name: String,
}

impl Numpy {
    fn open(config: &NumpyConfig) -> Result<Numpy> {
        let name = config.images.as_str().to_owned();
        let images = pixels(array(&config.images)?).with_context(|| format!("the images {name}"))?;
        let labels =
            labels(&array(&config.labels)?).with_context(|| format!("the labels {}", config.labels.as_str()))?;
        let [count, height, width, channels] = images.size()[..] else { bail!("images have four dimensions") };
        let (count, shape) = (count as usize, [height, width, channels].map(|side| side as usize));
        ensure!(
            labels.len() == count,
            "{name} has {count} images, but {} has {} labels",
            config.labels.as_str(),
            labels.len()
        );
        ensure!(count > 0, "{name} has no images");
        let largest = labels.iter().copied().max().unwrap_or_default();
        let classes = match &config.class_names {
            Some(names) => names.clone(),
            None => (0..=largest).map(|label| label.to_string()).collect(),
        };
        ensure!(
            largest < classes.len() as i64,
            "{} has the label {largest}, but `class_names` has {} names (labels count from 0)",
            config.labels.as_str(),
            classes.len()
        );
        let pixels = Vec::<u8>::try_from(&images.f_contiguous()?.f_reshape([-1])?)?;
        Ok(Numpy { pixels, shape, labels, classes, name })
    }
}

/// Images as bytes `[N, H, W, C]`.
fn pixels(array: Tensor) -> Result<Tensor> {
    let size = array.size();
    let array = match size[..] {
        [_, _, _] => array.f_unsqueeze(-1)?,
        [_, _, _, 1 | 3] => array,
        _ => bail!("have the shape {size:?}; images are [N, H, W] or [N, H, W, C] with 1 or 3 channels"),
    };
    match array.kind() {
        Element::Uint8 => Ok(array),
        Element::Float | Element::Double | Element::Half => {
            let (low, high) = (array.min().double_value(&[]), array.max().double_value(&[]));
            ensure!(
                low >= 0.0 && high <= 1.0,
                "are numbers from {low} to {high}; floating-point pixels go from 0 to 1, others are bytes (uint8)"
            );
            Ok((array * 255.0).f_round()?.f_to_kind(Element::Uint8)?)
        }
        other => bail!("are of the type {other:?}; pixels are bytes (uint8) or floating-point numbers from 0 to 1"),
    }
}

fn labels(array: &Tensor) -> Result<Vec<i64>> {
    let size = array.size();
    ensure!(matches!(size[..], [_] | [_, 1]), "have the shape {size:?}; they are [N] or [N, 1]");
    ensure!(
        matches!(array.kind(), Element::Uint8 | Element::Int8 | Element::Int16 | Element::Int | Element::Int64),
        "are of the type {:?}; labels are whole numbers",
        array.kind()
    );
    let labels = Vec::<i64>::try_from(&array.f_reshape([-1])?.f_to_kind(Element::Int64)?)?;
    ensure!(labels.iter().all(|label| *label >= 0), "has a label below 0");
    Ok(labels)
}

impl Dataset for Numpy {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let [height, width, channels] = self.shape;
        let size = height * width * channels;
        let pixels = &self.pixels[index * size..(index + 1) * size];
        Ok(Sample::new()
            .with(fields::ORIGINAL_SIZE, Field::Size([height, width]))
            .with(fields::IMAGE, Field::Image(Image::from_u8(height, width, channels, pixels.to_vec())))
            .with(fields::LABEL, Field::Integer(self.labels[index]))
            .with(fields::SOURCE, Field::Text(format!("{}[{index}]", self.name))))
    }

    fn property(&self, name: &str) -> Result<Value> {
        match name {
            "num_classes" => Ok(self.classes.len().into()),
            "class_names" => Ok(json!(self.classes)),
            _ => bail!("arrays have no property `{name}`"),
        }
    }

    fn class_names(&self) -> Vec<(i64, String)> {
        self.classes.iter().enumerate().map(|(label, name)| (label as i64, name.clone())).collect()
    }

    /// Of the labels and the shape of the images.
    fn classes(&self, index: usize) -> Option<Vec<i64>> {
        Some(vec![*self.labels.get(index)?])
    }

    fn contents(&self) -> Option<Contents> {
        Some(Contents::of_labels(self.labels.iter().copied()))
    }

    fn fingerprint(&self) -> Option<String> {
        let sum = Fingerprint::of(format!("{:?}", self.shape).as_bytes());
        Some(self.labels.iter().fold(sum, |sum, label| sum.with(&label.to_le_bytes())).text())
    }

    fn report(&self) -> Option<String> {
        Some(format!("{} images of {} classes", self.labels.len(), self.classes.len()))
    }
}
