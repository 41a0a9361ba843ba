//! Datasets in the format of Pascal VOC.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use roxmltree::{Document, Node};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::annotated::{self, Annotated, Choice, Crowd, Empty};
use super::files;
use super::split::Split;
use pipe_coco::index::{Builder, Index, LoadOptions, Object};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, PathValue, Problems, Property};
use pipe_data::decode::upright_size;
use pipe_vocab::files::read_text;

/// An annotation or a list is not longer.
const MAX_BYTES: u64 = 64 << 20;

/// The classes of the challenges from 2007 to 2012.
const CLASSES: [&str; 20] = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// Images with boxes in the format of Pascal VOC: one XML file an image.
///
/// Images are in `<root>/JPEGImages`, annotations in `<root>/Annotations`, the names of a split in
/// `<root>/ImageSets/Main/<split>.txt`. Labels are the places of the classes, from 1 on: VOC's twenty, or, if the annotations have
/// others, all that they have, sorted. Corners count pixels from 1 and belong to the box, so a box that covers an image of 500 pixels
/// begins at 0 and is 500 wide. Objects marked `difficult` are neither trained on nor counted in an evaluation; which detections they
/// excuse goes by the overlap of COCO's crowds, the share of the detection.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VocConfig {
    /// Root folder, such as `VOCdevkit/VOC2012`.
    pub root: PathValue,
    /// The split, such as `train`; or a part of all images, such as `{ part = "train", fraction = 0.8 }`.
    #[serde(default = "train")]
    pub split: Split,
    /// Folder of the images; default `<root>/JPEGImages`.
    #[serde(default)]
    pub images: Option<PathValue>,
    /// Folder of the annotations; default `<root>/Annotations`.
    #[serde(default)]
    pub annotations: Option<PathValue>,
    /// The classes to use, by name: their labels are their places, from 1 on, and objects of others are left out.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub classes: Option<Vec<String>>,
    /// Use only this many images, sampled at random.
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub limit: Option<usize>,
    /// Seed of that sampling: the same images on every machine, independent of the pipeline's seed.
    #[serde(default)]
    pub seed: u64,
    /// What to do with images without usable objects.
    #[serde(default)]
    pub empty: Empty,
    /// Whether an object without a name or a box is an error; otherwise it is skipped and counted.
    #[serde(default = "yes")]
    pub strict: bool,
}

fn train() -> Split {
    Split::Name("train".into())
}

fn yes() -> bool {
    true
}

impl Config for VocConfig {
    const KIND: Kind = Kind::Dataset;
    const TYPE: &'static str = "voc";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "voc"
root = "data/VOCdevkit/VOC2012"
split = "train"
"#;

    fn facts(&self) -> Facts {
        Facts {
            reads: Some(self.split.of(self.root.as_str())),
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
        annotated::contract(false, false)
    }
}

impl Component for VocConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let root = self.root.path().with_context(|| format!("there is no builtin dataset {:?}", self.root.as_str()))?;
        Ok(Instance::dataset(open(&self, root)?))
    }
}

pipe_core::register!(VocConfig);

fn open(config: &VocConfig, root: &Path) -> Result<Annotated> {
    let place = |set_apart: &Option<PathValue>, usual: &str| {
        set_apart.as_ref().and_then(PathValue::path).map_or(root.join(usual), Path::to_owned)
    };
    let (images, annotations) = (place(&config.images, "JPEGImages"), place(&config.annotations, "Annotations"));
    let all = stems(&annotations)?;
    let chosen = match config.split.name() {
        None => all.clone(),
        Some(split) => listed(&root.join("ImageSets/Main").join(format!("{split}.txt")))?,
    };
    // The classes are those of all splits, so that a label means the same in each.
    let listed: BTreeSet<&String> = chosen.iter().collect();
    let mut entries = Vec::new();
    let mut names = BTreeSet::new();
    for stem in &all {
        let file = annotations.join(format!("{stem}.xml"));
        let entry = Entry::read(&file, config.strict).with_context(|| format!("in {}", file.display()))?;
        names.extend(entry.objects.iter().map(|object| object.name.clone()));
        if listed.contains(stem) {
            entries.push((stem, entry));
        }
    }
    let missing: Vec<&str> = chosen.iter().filter(|stem| !all.contains(*stem)).map(String::as_str).collect();
    ensure!(
        missing.is_empty(),
        "{} of {} images have no annotation in {}, such as {}.xml",
        missing.len(),
        chosen.len(),
        annotations.display(),
        missing[0]
    );
    let classes: Vec<String> = match names.iter().all(|name| CLASSES.contains(&name.as_str())) {
        true => CLASSES.map(str::to_owned).to_vec(),
        false => names.into_iter().collect(),
    };
    let index = index(&entries, &classes, &images, config.strict)?;
    ensure!(!index.images().is_empty(), "there are no images in {}", annotations.display());
    annotated::check_names(&index, &images).with_context(|| format!("in {}", annotations.display()))?;
    let index = index.with_files(&images).with_context(|| {
        format!("the images of {} are missing; `images` can point to another folder", annotations.display())
    })?;
    let choice = Choice {
        classes: config.classes.as_deref(),
        split: Some(&config.split),
        limit: config.limit,
        seed: config.seed,
        empty: config.empty,
        crowd: Crowd::Drop,
        masks: false,
        keypoints: false,
        min_keypoints: 0,
        strict: config.strict,
    };
    Annotated::new(index, &images, None, &choice).with_context(|| format!("in {}", annotations.display()))
}

/// The names of the annotations without their ending, sorted.
fn stems(folder: &Path) -> Result<BTreeSet<String>> {
    let stem = |path: PathBuf| {
        let shown = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("xml"));
        (shown && !files::has_hidden_name(&path)).then(|| Some(path.file_stem()?.to_str()?.to_owned())).flatten()
    };
    let stems: Result<BTreeSet<String>> = files::below(folder).filter_map(|path| path.map(stem).transpose()).collect();
    let stems = stems?;
    ensure!(!stems.is_empty(), "{} has no annotations (.xml)", folder.display());
    Ok(stems)
}

/// The names in a list, the first word of each line.
fn listed(path: &Path) -> Result<BTreeSet<String>> {
    let text = read_text(path, MAX_BYTES).with_context(|| {
        format!(
            "cannot read the list {}; a part of all images is split = {{ part = \"train\", fraction = 0.8 }}",
            path.display()
        )
    })?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// One XML file.
struct Entry {
    file_name: Option<String>,
    /// `[height, width]`, where it says them.
    size: Option<[u32; 2]>,
    objects: Vec<Annotation>,
}

struct Annotation {
    name: String,
    /// `xmin, ymin, xmax, ymax`.
    corners: [f64; 4],
    difficult: bool,
}

impl Entry {
    fn read(path: &Path, strict: bool) -> Result<Entry> {
        let text = read_text(path, MAX_BYTES)?;
        let document = Document::parse(text.trim_start_matches('\u{feff}')).map_err(|error| anyhow!("{error}"))?;
        let root = document.root_element();
        let mut objects = Vec::new();
        for node in root.children().filter(|node| node.has_tag_name("object")) {
            match Annotation::of(node) {
                Ok(object) => objects.push(object),
                Err(error) => {
                    let row = document.text_pos_at(node.range().start).row;
                    let error = error.context(format!("line {row}"));
                    ensure!(!strict, "{error:#}; fix it, or set `strict = false` to skip such objects");
                    tracing::warn!("{}: {error:#}; the object is skipped", path.display());
                }
            }
        }
        let side = |name: &str| text_of(child(root, "size")?, name)?.parse::<f64>().ok().map(|side| side as u32);
        let size = side("height").zip(side("width")).map(|(height, width)| [height, width]);
        let size = size.filter(|size| size.iter().all(|side| *side > 0));
        Ok(Entry { file_name: text_of(root, "filename").map(str::to_owned), size, objects })
    }
}

impl Annotation {
    fn of(node: Node<'_, '_>) -> Result<Annotation> {
        let name = text_of(node, "name").filter(|name| !name.is_empty()).context("an object without a `name`")?;
        let bounds = child(node, "bndbox").with_context(|| format!("the object {name:?} has no `bndbox`"))?;
        let corner = |side: &str| {
            let text = text_of(bounds, side).unwrap_or_default();
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            number.with_context(|| format!("the object {name:?} has {text:?} for `{side}`, which is no number"))
        };
        let corners = [corner("xmin")?, corner("ymin")?, corner("xmax")?, corner("ymax")?];
        let difficult = text_of(node, "difficult").is_some_and(|text| text == "1");
        Ok(Annotation { name: name.to_owned(), corners, difficult })
    }
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn text_of<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)?.text().map(str::trim)
}

fn index(entries: &[(&String, Entry)], classes: &[String], images: &Path, strict: bool) -> Result<Index> {
    let mut builder = Builder::new((1..).zip(classes.iter().cloned()));
    for (id, (stem, entry)) in (1..).zip(entries) {
        // The annotation's own name decides which image it is; programs that move files do not change `filename`.
        let named = |ending: &str| Some(format!("{stem}.{ending}")).filter(|name| images.join(name).exists());
        let found = ["jpg", "png", "jpeg", "JPG", "bmp"].into_iter().find_map(named);
        let name = found.or_else(|| entry.file_name.clone()).unwrap_or_else(|| format!("{stem}.jpg"));
        let path = images.join(&name);
        let size = match entry.size {
            Some(size) => size,
            None if annotated::inside(images, Path::new(&name)) && path.exists() => {
                upright_size(&path)?.map(|side| side as u32)
            }
            None => [1, 1],
        };
        builder.image(id, &name, size);
        for object in &entry.objects {
            let [left, top, right, bottom] = object.corners;
            let category = classes.iter().position(|class| *class == object.name).unwrap_or_default() as u32 + 1;
            let bbox = [left - 1.0, top - 1.0, right - left + 1.0, bottom - top + 1.0];
            builder.object(id, &Object { category, bbox, crowd: object.difficult, polygons: Vec::new() })?;
        }
    }
    builder.finish(&LoadOptions { strict, ..LoadOptions::default() })
}
