//! Images with a class for each pixel.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use png::{BitDepth, ColorType, Transformations};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::files;
use super::split::Split;
use pipe_coco::synthetic::{ShapesSpec, write_shape_masks};
use pipe_core::facts::{Facts, Reads};
use pipe_core::{
    BuildContext, Component, Config, Contract, Dataset, Instance, Kind, PathValue, Problems, Property, PropertyType,
};
use pipe_data::decode::read_image;
use pipe_data::{Field, Fingerprint, Sample, fields};
use pipe_vocab::files::read_text;

/// The class of pixels that do not count.
const IGNORED: u8 = 255;
/// A list is not longer.
const MAX_LIST: u64 = 64 << 20;

/// Images with a mask of classes each: PNG files whose pixels are the numbers of the classes, grey or with a palette, as Pascal VOC
/// and Cityscapes have them. 255 is no class: it counts neither in the loss nor in metrics.
///
/// Images are in `<root>/images/<split>`, masks in `<root>/masks/<split>`; both can be overridden. An image and its mask have the same name
/// but for the ending. `builtin:shapes` needs no files: its classes are background, circle, square, triangle and star.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentationConfig {
    /// Root folder of the dataset, or `builtin:shapes`.
    #[serde(default)]
    pub root: Option<PathValue>,
    /// The split, such as `train`; or a part of all images, such as `{ part = "train", fraction = 0.8 }`, and `part = "val"` of the same
    /// for the evaluation.
    #[serde(default)]
    pub split: Option<Split>,
    /// Folder of the images; default `<root>/images/<split>`.
    #[serde(default)]
    pub images: Option<PathValue>,
    /// Folder of the masks; default `<root>/masks/<split>`.
    #[serde(default)]
    pub masks: Option<PathValue>,
    /// A list of the names to use, one a line without ending, such as VOC's `ImageSets/Segmentation/train.txt`. Default: all images
    /// that have a mask.
    #[serde(default)]
    pub list: Option<PathValue>,
    /// The classes, by number.
    #[schemars(length(min = 1, max = 255))]
    pub class_names: Vec<String>,
}

impl Config for SegmentationConfig {
    const KIND: Kind = Kind::Dataset;
    const TYPE: &'static str = "segmentation";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "segmentation"
images = "data/VOCdevkit/VOC2012/JPEGImages"
masks = "data/VOCdevkit/VOC2012/SegmentationClass"
list = "data/VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
class_names = ["background", "aeroplane", "bicycle"]
"#;

    fn facts(&self) -> Facts {
        let text = |path: &Option<PathValue>| path.as_ref().map_or("", PathValue::as_str).to_owned();
        let name = self.split.as_ref().and_then(Split::name).filter(|_| self.images.is_none()).unwrap_or_default();
        let root = if self.images.is_none() { text(&self.root) } else { text(&self.images) };
        let what = format!("{root} {name} {}", text(&self.list));
        let part = self.split.as_ref().and_then(Split::part);
        Facts { reads: Some(Reads { what, part }), ..Facts::default() }
    }

    fn check(&self, problems: &mut Problems) {
        if let Some(split) = &self.split {
            split.check(problems);
        }
        if self.list.is_some() && self.split.as_ref().is_some_and(|split| split.name().is_none()) {
            problems.at("split", "a part is of all images, and `list` says which to use", "keep one of them");
        }
        if self.root.is_none() {
            for (option, given) in [("images", &self.images), ("masks", &self.masks)] {
                if given.is_none() {
                    problems.at(
                        "",
                        format!("neither `root` nor `{option}` is set"),
                        "for example root = \"data/mine\"",
                    );
                }
            }
        }
        for (place, name) in self.class_names.iter().enumerate() {
            if self.class_names[..place].contains(name) {
                problems.at(
                    &format!("class_names.{place}"),
                    format!("{name:?} is there twice"),
                    "name each class once",
                );
            }
        }
    }

    fn properties() -> &'static [Property] {
        &[
            Property { name: "num_classes", ty: PropertyType::Integer, doc: "Number of classes." },
            Property { name: "class_names", ty: PropertyType::Strings, doc: "Class names by number." },
        ]
    }

    fn contract(&self) -> Contract {
        Contract::default().adds([fields::IMAGE, fields::SEGMENTATION, fields::ORIGINAL_SIZE, fields::SOURCE])
    }
}

impl Component for SegmentationConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::dataset(Segmentation::open(&self)?))
    }
}

pipe_core::register!(SegmentationConfig);

/// See [`SegmentationConfig`].
struct Segmentation {
    /// Images and masks, by name.
    samples: Vec<(PathBuf, PathBuf)>,
    classes: Vec<String>,
    without_mask: usize,
}

impl Segmentation {
    fn open(config: &SegmentationConfig) -> Result<Segmentation> {
        let (image_folder, mask_folder) = (folder(config, "images")?, folder(config, "masks")?);
        let (images, masks) = (by_stem(&image_folder)?, by_stem(&mask_folder)?);
        let mut samples = Vec::new();
        let mut without_mask = 0;
        match config.list.as_ref().and_then(PathValue::path) {
            Some(list) => {
                let text = read_text(list, MAX_LIST).with_context(|| format!("cannot read {}", list.display()))?;
                for name in text.lines().map(str::trim).filter(|name| !name.is_empty()) {
                    let found = |files: &BTreeMap<String, PathBuf>, what: &str| {
                        files.get(name).cloned().with_context(|| format!("{}: {name} has no {what}", list.display()))
                    };
                    samples.push((found(&images, "image")?, found(&masks, "mask")?));
                }
            }
            None => {
                let names: Vec<&str> = images.keys().map(String::as_str).collect();
                let chosen = match &config.split {
                    Some(Split::Part(part)) => part.choose(&names),
                    _ => (0..names.len()).collect(),
                };
                for name in chosen.into_iter().map(|place| names[place]) {
                    match masks.get(name) {
                        Some(mask) => samples.push((images[name].clone(), mask.clone())),
                        None => without_mask += 1,
                    }
                }
            }
        }
        ensure!(
            !samples.is_empty(),
            "no image in {} has a mask of the same name in {}",
            image_folder.display(),
            mask_folder.display()
        );
        Ok(Segmentation { samples, classes: config.class_names.clone(), without_mask })
    }
}

/// The folder of `images` or of `masks`.
fn folder(config: &SegmentationConfig, what: &str) -> Result<PathBuf> {
    let unknown = |value: &PathValue| format!("there is no builtin dataset {:?} of masks", value.as_str());
    if let Some(own) = if what == "images" { &config.images } else { &config.masks } {
        return own.path().map(Path::to_owned).with_context(|| unknown(own));
    }
    let root = config.root.as_ref().context("no `root`")?;
    let folder = match (root.path(), root.builtin()) {
        (Some(path), _) => path.to_owned(),
        (None, Some("shapes")) => {
            let root = pipe_vocab::cache::dir()?.join("shape_masks");
            write_shape_masks(&root, &ShapesSpec::few())?;
            root
        }
        (None, _) => bail!("{}; available: `builtin:shapes`", unknown(root)),
    };
    let split = config.split.as_ref().and_then(Split::name);
    Ok(split.map_or(folder.join(what), |split| folder.join(what).join(split)))
}

/// The images in a folder and below it, by their path there without ending.
fn by_stem(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let shown = files::below(folder).filter(|path| path.as_ref().is_ok_and(|path| files::is_shown_image(path)));
    let stem = |path: PathBuf| {
        let inside = path.strip_prefix(folder).unwrap_or(&path).with_extension("");
        Some((inside.to_str()?.to_owned(), path))
    };
    let found: Result<Vec<PathBuf>> = shown.collect();
    let found = found?;
    ensure!(!found.is_empty(), "there are no images in {}", folder.display());
    Ok(found.into_iter().filter_map(stem).collect())
}

/// The numbers of a PNG's pixels, `height` rows of `width`: of a palette its indices.
fn read_mask(path: &Path) -> Result<(usize, usize, Vec<u8>)> {
    let read = || -> Result<_> {
        pipe_vocab::files::open(path)?;
        let mut decoder = png::Decoder::new(BufReader::new(File::open(path)?));
        // Neither colours for indices nor bytes for the bits of grey.
        decoder.set_transformations(Transformations::IDENTITY);
        let mut reader = decoder.read_info()?;
        let info = reader.info();
        let (width, height, depth) = (info.width as usize, info.height as usize, info.bit_depth);
        pipe_native::image::believe(width as u64, height as u64, std::fs::metadata(path)?.len())?;
        ensure!(
            matches!(info.color_type, ColorType::Grayscale | ColorType::Indexed),
            "it has colours, not numbers of classes: a mask is grey or has a palette"
        );
        ensure!(depth != BitDepth::Sixteen, "it has 16 bits a pixel: a mask has at most 8");
        let mut rows = vec![0; reader.output_buffer_size().context("it is too large")?];
        let frame = reader.next_frame(&mut rows)?;
        let line = frame.line_size;
        let (bits, mut classes) = (depth as usize, Vec::with_capacity(width * height));
        for row in rows.chunks(line).take(height) {
            classes.extend((0..width).map(|x| {
                let (byte, shift) = (x * bits / 8, 8 - bits - x * bits % 8);
                row[byte] >> shift & (0xffu16 >> (8 - bits)) as u8
            }));
        }
        Ok((height, width, classes))
    };
    read().with_context(|| format!("cannot read the mask {}", path.display()))
}

impl Dataset for Segmentation {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let (path, mask) = &self.samples[index];
        let image = read_image(path, false)?;
        let (height, width, classes) = read_mask(mask)?;
        ensure!(
            (height, width) == (image.height, image.width),
            "{} has {height} × {width} pixels, but its image has {} × {}",
            mask.display(),
            image.height,
            image.width
        );
        if let Some(other) =
            classes.iter().find(|class| **class != IGNORED && usize::from(**class) >= self.classes.len())
        {
            bail!("{} has pixels of class {other}, but there are {} classes", mask.display(), self.classes.len());
        }
        Ok(Sample::new()
            .with(fields::ORIGINAL_SIZE, Field::Size([height, width]))
            .with(fields::IMAGE, Field::Image(image))
            .with(fields::SEGMENTATION, Field::Segmentation { height, width, classes })
            .with(fields::SOURCE, Field::Text(path.display().to_string())))
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        self.samples.get(index).map(|(path, _)| path.clone())
    }

    fn property(&self, name: &str) -> Result<Value> {
        match name {
            "num_classes" => Ok(self.classes.len().into()),
            "class_names" => Ok(json!(self.classes)),
            _ => bail!("a dataset of masks has no property `{name}`"),
        }
    }

    fn class_names(&self) -> Vec<(i64, String)> {
        self.classes.iter().enumerate().map(|(label, name)| (label as i64, name.clone())).collect()
    }

    /// Of the listing.
    fn fingerprint(&self) -> Option<String> {
        let name = |path: &Path| path.file_name().unwrap_or_default().as_encoded_bytes().to_owned();
        let add = |sum: Fingerprint, (image, mask): &(PathBuf, PathBuf)| sum.with(&name(image)).with(&name(mask));
        Some(self.samples.iter().fold(Fingerprint::default(), add).text())
    }

    fn report(&self) -> Option<String> {
        let without = match self.without_mask {
            0 => String::new(),
            count => format!("; {count} images without a mask are left out"),
        };
        Some(format!("{} images, {} classes{without}", self.samples.len(), self.classes.len()))
    }
}
