//! Datasets in the format of YOLO, as Ultralytics reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::annotated::{self, Annotated, Choice, Crowd, Empty};
use super::files;
use super::split::Split;
use pipe_coco::index::{Builder, LoadOptions, Object};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, PathValue, Problems, Property};
use pipe_data::decode::{is_image_file, upright_size};
use pipe_vocab::files::read_text;

/// A `data.yaml` is not longer.
const MAX_YAML: u64 = 1 << 20;
/// A file of labels is not longer.
const MAX_LABELS: u64 = 64 << 20;

/// Images with boxes, or masks, in the format of YOLO: a `data.yaml` and one file of labels an image.
///
/// Each line of a label file is `class x y width height` or `class x y x y …` (a polygon), in shares of the upright image. The
/// files lie in `labels` as the images lie in `images`; an image without one has no objects. Labels are the classes of `data.yaml`
/// counted from 1, 0 is the background. Of a file for poses only the boxes are used.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct YoloConfig {
    /// The `data.yaml`: `path`, the folders or lists of each split, and `names`.
    pub data: PathValue,
    /// The split, a key of `data.yaml`; or a part of the images of `train`, such as `{ part = "train", fraction = 0.8 }`.
    #[serde(default = "train")]
    pub split: Split,
    /// The classes to use, by name: their labels are their places, from 1 on, and labels of others are left out.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub classes: Option<Vec<String>>,
    /// Whether to load masks: of the objects that are polygons.
    #[serde(default)]
    pub masks: bool,
    /// Use only this many images, sampled at random.
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub limit: Option<usize>,
    /// Seed of that sampling: the same images on every machine, independent of the pipeline's seed.
    #[serde(default)]
    pub seed: u64,
    /// What to do with images without usable labels.
    #[serde(default)]
    pub empty: Empty,
    /// Whether a line that is no label is an error; otherwise it is skipped and counted in the dataset summary.
    #[serde(default = "yes")]
    pub strict: bool,
}

fn train() -> Split {
    Split::Name("train".into())
}

fn yes() -> bool {
    true
}

impl Config for YoloConfig {
    const KIND: Kind = Kind::Dataset;
    const TYPE: &'static str = "yolo";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "yolo"
data = "data/fruits/data.yaml"
split = "train"
"#;

    fn facts(&self) -> Facts {
        Facts {
            reads: Some(self.split.of(self.data.as_str())),
            limited: self.limit.is_some(),
            leaves_out: self.empty.leaves_out().into_iter().collect(),
            ..Facts::default()
        }
    }

    fn properties() -> &'static [Property] {
        annotated::PROPERTIES
    }

    fn check(&self, problems: &mut Problems) {
        self.split.check(problems);
    }

    fn contract(&self) -> Contract {
        annotated::contract(self.masks, false)
    }
}

impl Component for YoloConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let file = self.data.path().with_context(|| format!("there is no builtin dataset {:?}", self.data.as_str()))?;
        Ok(Instance::dataset(open(&self, file)?))
    }
}

pipe_core::register!(YoloConfig);

/// `data.yaml`, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Data {
    path: Option<PathBuf>,
    names: Names,
    /// Ultralytics' poses: how many numbers follow a box.
    kpt_shape: Option<[usize; 2]>,
    #[serde(flatten)]
    others: BTreeMap<String, Paths>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    List(Vec<String>),
    Map(BTreeMap<u32, String>),
}

/// What a split names; other keys are of no interest.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Paths {
    One(PathBuf),
    Many(Vec<PathBuf>),
    Other(serde::de::IgnoredAny),
}

fn open(config: &YoloConfig, file: &Path) -> Result<Annotated> {
    let text = read_text(file, MAX_YAML).with_context(|| format!("cannot read {}", file.display()))?;
    let data: Data =
        serde_saphyr::from_str(&text).map_err(|error| anyhow!("{}: {error}", file.display())).with_context(|| {
            format!("{} is no data.yaml of YOLO, which has `names` and `train` or `val`", file.display())
        })?;
    let split = config.split.name().unwrap_or("train");
    let paths = match data.others.get(split) {
        Some(Paths::One(path)) => std::slice::from_ref(path),
        Some(Paths::Many(paths)) => paths.as_slice(),
        _ => bail!("{} names no images for `{split}`", file.display()),
    };
    let folder = file.parent().unwrap_or(Path::new("."));
    let root = data.path.as_ref().map_or(folder.to_owned(), |path| folder.join(path));
    let mut images = Vec::new();
    for path in paths {
        images.extend(images_of(&root, path).with_context(|| format!("`{split}` of {}", file.display()))?);
    }
    images.sort();
    images.dedup();
    ensure!(!images.is_empty(), "{}: there are no images for `{split}`", file.display());
    let names: BTreeMap<u32, String> = match data.names {
        Names::List(names) => (0..).zip(names).collect(),
        Names::Map(names) => names,
    };
    let reader =
        Reader { names, poses: data.kpt_shape.map(|[points, numbers]| points * numbers), strict: config.strict };
    let index = reader.index(&images).with_context(|| format!("in {}", file.display()))?;
    let choice = Choice {
        classes: config.classes.as_deref(),
        split: Some(&config.split),
        limit: config.limit,
        seed: config.seed,
        empty: config.empty,
        crowd: Crowd::Drop,
        masks: config.masks,
        keypoints: false,
        min_keypoints: 0,
        strict: config.strict,
    };
    // Names are whole paths, which `join` takes as they are.
    let dataset = Annotated::new(index, Path::new(""), None, &choice);
    Ok(dataset.with_context(|| format!("in {}", file.display()))?.upright())
}

/// The images that a path of `data.yaml` means: of a folder, or of a list of files.
fn images_of(root: &Path, path: &Path) -> Result<Vec<PathBuf>> {
    // Without the `.` that a `path` often is.
    let whole: PathBuf = root.join(path).components().collect();
    if whole.is_dir() {
        return files::below(&whole)
            .filter(|path| path.as_ref().is_ok_and(|path| files::is_shown_image(path)))
            .collect();
    }
    let list = read_text(&whole, MAX_LABELS)
        .with_context(|| format!("{} is neither a folder nor a list of images", whole.display()))?;
    // In a list `./` is the folder of the list.
    let beside = whole.parent().unwrap_or(Path::new("."));
    let paths = list.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(paths
        .map(|line| beside.join(line.strip_prefix("./").unwrap_or(line)))
        .filter(|path| is_image_file(path))
        .collect())
}

/// The labels' file of an image: the last folder `images` replaced by `labels`.
fn labels_of(image: &Path) -> PathBuf {
    let parts: Vec<_> = image.components().collect();
    let at = parts.iter().rposition(|part| part.as_os_str() == "images");
    let replaced = parts.iter().enumerate().map(|(i, part)| match at {
        Some(at) if i == at => "labels".as_ref(),
        _ => part.as_os_str(),
    });
    replaced.collect::<PathBuf>().with_extension("txt")
}

struct Reader {
    names: BTreeMap<u32, String>,
    /// Numbers that follow a box and are of no interest here.
    poses: Option<usize>,
    strict: bool,
}

impl Reader {
    fn index(&self, images: &[PathBuf]) -> Result<pipe_coco::index::Index> {
        let mut builder = Builder::new(self.names.iter().map(|(class, name)| (class + 1, name.clone())));
        let ids = ids(images);
        ensure!(
            images.iter().any(|image| labels_of(image).exists()),
            "not one of the {} images has a file of labels; looked for such as {}",
            images.len(),
            labels_of(&images[0]).display()
        );
        let mut skipped = Vec::new();
        for (image, id) in images.iter().zip(ids) {
            let [height, width] = upright_size(image)?;
            let name = image.to_str().with_context(|| format!("the name of {} is no UTF-8", image.display()))?;
            builder.image(id, name, [u32::try_from(height)?, u32::try_from(width)?]);
            let file = labels_of(image);
            if !file.exists() {
                continue;
            }
            let text = read_text(&file, MAX_LABELS).with_context(|| format!("cannot read {}", file.display()))?;
            for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
                if line.trim().is_empty() {
                    continue;
                }
                match self.object(line, [height as f64, width as f64]) {
                    Ok(object) => builder.object(id, &object)?,
                    Err(error) => skipped.push(error.context(format!("{}:{}", file.display(), number + 1))),
                }
            }
        }
        if let Some(first) = skipped.first() {
            ensure!(
                !self.strict,
                "{first:#}{}; fix it, or set `strict = false` to skip such lines",
                if skipped.len() > 1 { format!(" (and {} more)", skipped.len() - 1) } else { String::new() }
            );
            tracing::warn!("{} lines are no labels and are skipped; the first: {first:#}", skipped.len());
        }
        builder.finish(&LoadOptions { strict: self.strict, ..LoadOptions::default() })
    }

    fn object(&self, line: &str, size: [f64; 2]) -> Result<Object> {
        let mut words = line.split_whitespace();
        let class = words.next().and_then(|word| word.parse::<f64>().ok()).filter(|class| class.fract() == 0.0);
        let class = class.filter(|class| (0.0..f64::from(u32::MAX)).contains(class));
        let class = class.with_context(|| format!("{line:?} does not begin with the number of a class"))? as u32;
        ensure!(self.names.contains_key(&class), "class {class} is not among the {} `names`", self.names.len());
        let number = |word: &str| word.parse::<f64>().ok().filter(|number| number.is_finite());
        let numbers: Option<Vec<f64>> = words.map(number).collect();
        let mut numbers = numbers.with_context(|| format!("{line:?} has something that is no number"))?;
        if let Some(more) = self.poses.filter(|more| numbers.len() == 4 + more) {
            numbers.truncate(numbers.len() - more);
        }
        let shares = |numbers: &[f64]| numbers.iter().all(|share| (-0.01..=1.01).contains(share));
        ensure!(shares(&numbers), "{line:?} has numbers outside 0 to 1: they are shares of the image, not pixels");
        let [height, width] = size;
        let object = Object { category: class + 1, ..Object::default() };
        match numbers[..] {
            [x, y, w, h] => {
                Ok(Object { bbox: [(x - w / 2.0) * width, (y - h / 2.0) * height, w * width, h * height], ..object })
            }
            [_, _, _, _, _, _, ..] if numbers.len().is_multiple_of(2) => {
                let points = numbers.as_chunks::<2>().0;
                let span = |axis: usize| {
                    let values = points.iter().map(|point| point[axis]);
                    (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
                };
                let ((left, right), (top, bottom)) = (span(0), span(1));
                let bbox = [left * width, top * height, (right - left) * width, (bottom - top) * height];
                let polygon = points.iter().flat_map(|[x, y]| [x * width, y * height]).collect();
                Ok(Object { bbox, polygons: vec![polygon], ..object })
            }
            _ => bail!("{line:?} has {} numbers after the class: a box has 4, a polygon at least 6", numbers.len()),
        }
    }
}

/// The numbers in the files' names where all have one and no two the same, as Ultralytics numbers its results; else their places
/// from 1 on.
fn ids(images: &[PathBuf]) -> Vec<i64> {
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<i64>().ok().filter(|id| *id >= 0);
    let numbers: Option<Vec<i64>> = images.iter().map(number).collect();
    let distinct = |ids: &Vec<i64>| ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
    numbers.filter(distinct).unwrap_or_else(|| (1..=images.len() as i64).collect())
}
