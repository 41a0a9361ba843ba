//! `pipe predict FILE --weights W --images PATH…`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use tch::{Device, Tensor};

use crate::output::{Format, Status, print};
use crate::partial::{Partial, choose, load_weights, port_of, read_weights};
use crate::signals::{STOPPING, Signals};
use crate::source::{PipelineArgs, plan_or_tell};
use pipe_coco::eval::Detection;
use pipe_coco::index::{Index, LoadOptions};
use pipe_components::detections;
use pipe_components::engine::evaluate::EvaluateConfig;
use pipe_core::{Config, Instance, Kind, Model, NodeId, RunContext, Shared, Transform};
use pipe_data::batch::Detections;
use pipe_data::decode::{is_image_file, read_image};
use pipe_data::random::{Purpose, stream};
use pipe_data::{BatchField, Field, Image, Pixels, Sample, collate, fields};
use pipe_draw::{DrawOptions, Instance as Shown, MaskRef, RgbImage, draw_instances};
use pipe_plan::{Plan, PlanNode};
use pipe_run::labels;
use pipe_vision::checkpoint::num_classes;
use pipe_vision::nn::StateDict;
use pipe_vision::weights::{self, Weights};

/// Score threshold for drawing without `--threshold`.
const DRAWN_FROM: f64 = 0.5;

/// Arguments of `pipe predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Weights: a `.safetensors` or `.pth` file, or the folder of a checkpoint or a run.
    #[arg(long, value_name = "PATH")]
    weights: PathBuf,
    /// Images, or folders of them.
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    images: Vec<PathBuf>,
    /// Annotations of these images, a COCO file: the results have its ids, found by file name.
    #[arg(long, value_name = "FILE.json")]
    annotations: Option<PathBuf>,
    /// The results file, in COCO format.
    #[arg(long, value_name = "OUT.json")]
    out: PathBuf,
    /// Write images with the detections drawn into this folder.
    #[arg(long, value_name = "DIR")]
    draw: Option<PathBuf>,
    /// Also write the raw model outputs: one safetensors file per image in this folder with `boxes` (`[N, 4]` xyxy),
    /// `labels`, `scores` and `masks` (`[N, 1, H, W]` probabilities), in pixels of the model's input image.
    #[arg(long, value_name = "DIR")]
    raw: Option<PathBuf>,
    /// Score threshold. By default the file has all detections, and those with a score of at least 0.5 are drawn.
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f64>,
    /// Batch size.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    batch_size: u64,
    /// The model, if the pipeline has several.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Device, instead of the pipeline's.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Output format of the summary.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Detects objects in images and writes a results file.
///
/// # Errors
/// When an image, the weights or the pipeline's model is unsuitable, or a file cannot be written.
pub fn predict(args: &PredictArgs) -> Result<Status> {
    let mut loaded = args.pipeline.load();
    if plan_or_tell(&loaded)?.is_none() {
        return Ok(Status::Wrong);
    }
    let Some(plan) = &mut loaded.plan else { return Ok(Status::Wrong) };
    let mut pictures = pictures(&args.images)?;
    match &args.annotations {
        Some(file) => take_ids(&mut pictures, file)?,
        None if pictures.iter().any(|picture| picture.counted) => tracing::warn!(
            "the file names are no ids, so the images are numbered from 1; `pipe score` goes by `file_name`, other \
             programs need `--annotations`"
        ),
        None => {}
    }
    let interrupt = Signals::listen(STOPPING)?;
    let partial =
        Partial::open(plan, loaded.catalog.clone(), args.device.as_deref(), interrupt.requests.interrupt.clone())?;
    let predictor = Predictor::build(plan, &partial, args)?;
    for folder in [&args.draw, &args.raw].into_iter().flatten() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let start = Instant::now();
    let (mut results, mut unread): (Vec<Value>, usize) = (Vec::new(), 0);
    for (done, pictures) in pictures.chunks(args.batch_size as usize).enumerate() {
        if partial.context().interrupted() {
            return Ok(Status::Signalled(interrupt.status()));
        }
        let (pictures, read): (Vec<&Picture>, Vec<Image>) =
            pictures.iter().filter_map(|picture| read_or_tell(picture, &mut unread)).unzip();
        if pictures.is_empty() {
            continue;
        }
        let found = predictor.run(&pictures, &read, done as u64, args.raw.as_deref())?;
        for ((picture, image), found) in pictures.iter().zip(&read).zip(found) {
            let kept = found.into_iter().filter(|found| found.score >= args.threshold.unwrap_or(0.0));
            let kept: Vec<Detection> = kept.collect();
            if let Some(folder) = &args.draw {
                draw(folder, picture, image, &kept, args.threshold.unwrap_or(DRAWN_FROM), &predictor.names)?;
            }
            results.extend(kept.iter().map(|found| entry(picture, found)));
        }
        tracing::debug!("{} images done", (done + 1) * args.batch_size as usize);
    }
    pipe_vocab::atomic::write(&args.out, &serde_json::to_vec(&results)?)?;
    ensure!(
        unread == 0,
        "{unread} of {} images could not be read; the results of the others are in {}",
        pictures.len(),
        args.out.display()
    );
    let seconds = start.elapsed().as_secs_f64();
    print(&match args.format {
        Format::Text => format!(
            "{} detections in {} images, {:.1} images/s: {}\n",
            results.len(),
            pictures.len(),
            pictures.len() as f64 / seconds.max(1e-9),
            args.out.display()
        ),
        Format::Json => {
            let summary = json!({
                "pictures": pictures.len(), "detections": results.len(), "seconds": seconds, "out": args.out,
            });
            serde_json::to_string_pretty(&summary)? + "\n"
        }
    })
}

/// An image to look at.
struct Picture {
    /// The number in its name, as COCO names its files (`000000000139.jpg`), else its place in the list from 1 on.
    id: i64,
    path: PathBuf,
    /// Whether the id is a mere place, so that the results must say the name.
    counted: bool,
}

impl Picture {
    /// What files about it are called, without ending.
    fn name(&self) -> String {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        if self.counted { format!("{}_{stem}", self.id) } else { stem.into_owned() }
    }
}

/// How many files have which ending: `2 .bmp, 1 .tif`.
fn endings(files: &[PathBuf]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let ending = file.extension().map(|ending| format!(".{}", ending.to_string_lossy().to_lowercase()));
        *counts.entry(ending.unwrap_or_else(|| "without an ending".into())).or_default() += 1;
    }
    counts.into_iter().map(|(ending, count)| format!("{count} {ending}")).collect::<Vec<_>>().join(", ")
}

/// All images that the paths name, those of a folder by name.
fn pictures(paths: &[PathBuf]) -> Result<Vec<Picture>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
            let all = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
            let (mut inside, others): (Vec<PathBuf>, Vec<PathBuf>) = all.partition(|path| is_image_file(path));
            if !others.is_empty() {
                tracing::warn!("{}: no images of a format that is read: {}", path.display(), endings(&others));
            }
            ensure!(!inside.is_empty(), "{} contains no images", path.display());
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<i64>().ok().filter(|id| *id >= 0);
    let numbers: Option<Vec<i64>> = files.iter().map(number).collect();
    let distinct = |ids: &Vec<i64>| ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
    let counted = numbers.as_ref().is_none_or(|ids| !distinct(ids));
    let ids = numbers.filter(|_| !counted).unwrap_or_else(|| (1..=files.len() as i64).collect());
    Ok(files.into_iter().zip(ids).map(|(path, id)| Picture { id, path, counted }).collect())
}

/// Gives the images the ids that annotations have for their names.
fn take_ids(pictures: &mut [Picture], annotations: &Path) -> Result<()> {
    let index = Index::open(annotations, &LoadOptions { strict: false, images: false })?;
    let base = |name: &str| name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let mut ids: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for image in index.images() {
        ids.entry(base(&image.file_name)).or_default().push(image.id);
    }
    for picture in pictures {
        let name = base(&picture.path.display().to_string());
        picture.id = match ids.get(&name).map(Vec::as_slice) {
            Some([id]) => *id,
            Some(_) => bail!("{} has several images called {name}", annotations.display()),
            None => bail!("{} has no image called {name}", annotations.display()),
        };
    }
    Ok(())
}

/// An image, or a word on why it is left out.
fn read_or_tell<'p>(picture: &'p Picture, unread: &mut usize) -> Option<(&'p Picture, Image)> {
    match read_image(&picture.path, false) {
        Ok(image) => Some((picture, image)),
        Err(error) => {
            tracing::error!("{error:#}; it is left out");
            *unread += 1;
            None
        }
    }
}

/// The model with what belongs to it.
struct Predictor {
    context: std::rc::Rc<RunContext>,
    model: Shared<dyn Model>,
    /// What evaluation does to images before the model sees them.
    transform: Option<Arc<dyn Transform>>,
    names: BTreeMap<i64, String>,
}

impl Predictor {
    fn build(plan: &mut Plan, partial: &Partial, args: &PredictArgs) -> Result<Predictor> {
        let detects = |node: &PlanNode| node.contract().adds.contains(fields::DETECTIONS);
        let id = choose(plan, Kind::Model, args.model.as_deref(), detects, "detection model")?.clone();
        let Weights { tensors, metadata, .. } = read_weights(&args.weights, &id)?;
        // Names are only drawn, and may need the reading of a large file.
        let names = match labels::of_weights(&metadata) {
            Some(names) => names,
            None if args.draw.is_some() => class_names(plan, partial, &id),
            None => BTreeMap::new(),
        };
        if let Some(classes) = num_classes(&tensors) {
            take_classes(plan, &id, classes)?;
        }
        let Instance::Model(model) = partial.build(plan, &id)? else { bail!("{id} is not a model") };
        load_weights(&partial.graph, &id, tensors)?;
        model.borrow_mut().set_training(false);
        let transform = match evaluation_transform(plan, &id) {
            Some(node) => match partial.build(plan, node)? {
                Instance::Transform(transform) => Some(transform),
                _ => bail!("{node} is not a transform"),
            },
            None => None,
        };
        Ok(Predictor { context: partial.graph.run.clone(), model, transform, names })
    }

    /// Detections of each image, at its own size.
    fn run(
        &self,
        pictures: &[&Picture],
        images: &[Image],
        number: u64,
        raw: Option<&Path>,
    ) -> Result<Vec<Vec<Detection>>> {
        let samples = pictures.iter().zip(images).enumerate().map(|(i, (picture, image))| {
            let sample = Sample::new()
                .with(fields::IMAGE, Field::Image(image.clone()))
                .with(fields::IMAGE_ID, Field::Integer(picture.id))
                .with(fields::ORIGINAL_SIZE, Field::Size([image.height, image.width]))
                .with(fields::SOURCE, Field::Text(picture.path.display().to_string()));
            let mut rng = stream(self.context.seed, Purpose::Sample, number, i as u64);
            match &self.transform {
                Some(transform) => transform
                    .apply(sample, &mut rng)
                    .with_context(|| format!("transforming {}", picture.path.display())),
                None => Ok(sample),
            }
        });
        let batch = collate(samples.collect::<Result<Vec<_>>>()?)?.to_device(self.context.device);
        let mut model = self.model.borrow_mut();
        let output = tch::no_grad(|| self.context.autocast(|| model.forward(&batch)))??;
        let Some(BatchField::Detections(found)) = output.outputs.get(fields::DETECTIONS) else {
            bail!("the model returned no detections");
        };
        if let Some(folder) = raw {
            pictures.iter().zip(found).try_for_each(|(picture, found)| write_raw(folder, picture, found))?;
        }
        let given = batch.list(fields::IMAGE)?;
        let each = found.iter().zip(&given).zip(images).map(|((found, given), image)| {
            let (_, height, width) = given.size3()?;
            let original = [image.height as i64, image.width as i64];
            detections::to_coco(found, [height, width], original, found.masks.is_some())
        });
        each.collect()
    }
}

/// What the classes are called, where the dataset that the model's number of classes comes from is there.
fn class_names(plan: &Plan, partial: &Partial, model: &NodeId) -> BTreeMap<i64, String> {
    let Some(edge) = plan.property_edges.iter().find(|edge| edge.to == *model) else { return BTreeMap::new() };
    match partial.build(plan, &edge.from) {
        Ok(Instance::Dataset(dataset)) => dataset.class_names().into_iter().collect(),
        Ok(_) => BTreeMap::new(),
        Err(error) => {
            tracing::warn!("class names are not available, showing numbers: {error:#}");
            BTreeMap::new()
        }
    }
}

/// Lets the model have as many classes as its weights, so that it does not need the dataset it was trained on.
fn take_classes(plan: &mut Plan, model: &NodeId, classes: i64) -> Result<()> {
    let from_dataset = |edge: &&pipe_plan::PropertyEdge| edge.to == *model && edge.property == "num_classes";
    let Some(option) = plan.property_edges.iter().find(from_dataset).map(|edge| edge.option.clone()) else {
        return Ok(());
    };
    let set = plan.set_option(model, &option, classes.into());
    set.map_err(|problem| anyhow!("the number of classes of these weights: {problem}"))
}

/// The transform of the loader with which the model is evaluated.
fn evaluation_transform<'p>(plan: &'p Plan, model: &NodeId) -> Option<&'p NodeId> {
    let evaluates = |node: &&PlanNode| {
        node.descriptor.name == EvaluateConfig::TYPE && port_of(plan, &node.id, Kind::Model) == Some(model)
    };
    let engine = plan.nodes.values().find(evaluates)?;
    port_of(plan, port_of(plan, &engine.id, Kind::Loader)?, Kind::Transform)
}

/// The model's raw output for an image, as tensors.
fn write_raw(folder: &Path, picture: &Picture, found: &Detections) -> Result<()> {
    let tensor = |name: &str, tensor: &Tensor| (name.to_owned(), tensor.to_device(Device::Cpu));
    let mut tensors: StateDict =
        [tensor("boxes", &found.boxes), tensor("labels", &found.labels), tensor("scores", &found.scores)].into();
    tensors.extend(found.masks.as_ref().map(|masks| tensor("masks", masks)));
    weights::write(&folder.join(format!("{}.safetensors", picture.name())), &tensors, &BTreeMap::new())
}

/// A detection as COCO's results files have it.
fn entry(picture: &Picture, found: &Detection) -> Value {
    let mut entry = json!({
        "image_id": picture.id, "category_id": found.category_id, "bbox": found.bbox, "score": found.score,
    });
    if let Some(mask) = &found.mask {
        entry["segmentation"] = json!({ "size": [mask.height(), mask.width()], "counts": mask.to_compressed() });
    }
    entry["file_name"] = picture.path.display().to_string().into();
    entry
}

fn draw(
    folder: &Path,
    picture: &Picture,
    image: &Image,
    found: &[Detection],
    threshold: f64,
    names: &BTreeMap<i64, String>,
) -> Result<()> {
    let Pixels::U8(pixels) = &image.pixels else { bail!("a decoded image has bytes") };
    let canvas = RgbImage::from_data(image.height, image.width, pixels.clone())?;
    let shown: Vec<&Detection> = found.iter().filter(|found| found.score >= threshold).collect();
    let masks: Vec<Option<Vec<u8>>> = shown.iter().map(|found| found.mask.as_ref().map(|mask| mask.decode())).collect();
    let label = |found: &Detection| {
        let class = i64::from(found.category_id);
        names.get(&class).cloned().unwrap_or_else(|| format!("class {class}"))
    };
    let labels: Vec<String> = shown.iter().map(|found| label(found)).collect();
    let instances = shown.iter().zip(&masks).zip(&labels).map(|((found, mask), label)| {
        let [x, y, width, height] = found.bbox.map(|v| v as f32);
        let mask = mask.as_ref().map(|mask| MaskRef::new(mask, image.height, image.width)).transpose()?;
        let class_id = i64::from(found.category_id);
        let (bbox, score) = (Some([x, y, x + width, y + height]), Some(found.score as f32));
        Ok(Shown { bbox, mask, label, class_id, score, crowd: false })
    });
    let instances = instances.collect::<Result<Vec<_>>>()?;
    let png = draw_instances(&canvas, &instances, &DrawOptions::default()).encode_png()?;
    pipe_vocab::atomic::write(&folder.join(format!("{}.png", picture.name())), &png)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipe_coco::mask::Rle;

    #[test]
    fn pictures_are_numbered_by_name_or_place() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["000000000139.jpg", "7.png", "notes.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let by_name = pictures(&[folder.path().to_owned()]).unwrap();
        assert_eq!(by_name.iter().map(|p| p.id).collect::<Vec<_>>(), [139, 7]);
        let by_place = pictures(&[folder.path().join("7.png"), "cat.jpg".into()]).unwrap();
        assert_eq!(by_place.iter().map(|p| (p.id, p.counted)).collect::<Vec<_>>(), [(1, true), (2, true)]);
        let empty = tempfile::tempdir().unwrap();
        assert!(pictures(&[empty.path().to_owned()]).is_err());
        assert_eq!(endings(&["a.BMP".into(), "b.bmp".into(), "c".into()]), "2 .bmp, 1 without an ending");
    }

    #[test]
    fn results_can_be_read_back() {
        let mask = Rle::encode(&[0, 1, 1, 0, 1, 1], 2, 3).unwrap();
        let found =
            Detection { category_id: 3, bbox: [1.0, 0.0, 2.0, 2.0], score: 0.75, mask: Some(mask.clone()), area: None };
        let picture = Picture { id: 139, path: "000000000139.jpg".into(), counted: false };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.json");
        pipe_vocab::atomic::write(&file, &serde_json::to_vec(&[entry(&picture, &found)]).unwrap()).unwrap();
        let read = pipe_coco::eval::read_results(&file).unwrap();
        assert_eq!((read[0].image_id, read[0].category_id, read[0].score), (139, 3, 0.75));
        assert_eq!(read[0].bbox, Some(found.bbox));
        assert_eq!(read[0].segmentation.mask(2, 3).unwrap(), mask);
    }
}
