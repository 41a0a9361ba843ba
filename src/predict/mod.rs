//! `pipe predict FILE --weights W --images PATH…`.
//!
//! - `images`: which images, under which ids
//! - `model`: the model, and what it says of them
//! - `write`: what is written of that

mod images;
mod model;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use self::images::{Picture, of_dataset, pictures, refuse_overwriting, take_ids};
use self::model::{Found, Predictor};
use self::write::{As, Writer};
use crate::output::{Format, Status, print};
use crate::partial::{Partial, choose, weights_for};
use crate::signals::{STOPPING, Signals};
use crate::source::{PipelineArgs, plan_or_tell};
use pipe_core::{Instance, Kind, NodeId, terminal};
use pipe_data::{Image, fields};
use pipe_plan::Plan;

/// Score threshold for drawing without `--threshold`.
const DRAWN_FROM: f64 = 0.5;

/// Arguments of `pipe predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Weights: a `.safetensors` or `.pth` file, a checkpoint's folder, a run's folder (its best checkpoint), `torchvision:NAME`;
    /// `best` or `latest` of the newest run. A run in place of FILE needs none.
    #[arg(long, value_name = "PATH")]
    weights: Option<String>,
    /// Images, folders of them, patterns such as 'val/*.jpg', or lists (`.txt`).
    #[arg(long, value_name = "PATH", required_unless_present = "split", num_args = 1..)]
    images: Vec<PathBuf>,
    /// Instead the images of a dataset of the pipeline, such as `val`, with its ids.
    #[arg(long, value_name = "DATASET", conflicts_with_all = ["images", "annotations"])]
    split: Option<String>,
    /// Annotations of these images, a COCO file: the results have its ids of images, found by file name, and of categories, by name.
    #[arg(long, value_name = "FILE.json")]
    annotations: Option<PathBuf>,
    /// The results: a file for `--as json`, else a folder.
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// How results are written. Default: `json`, of segmentation `png`.
    #[arg(long = "as", value_enum, value_name = "FORMAT")]
    as_: Option<As>,
    /// Write images with the predictions drawn into this folder.
    #[arg(long, value_name = "DIR")]
    draw: Option<PathBuf>,
    /// Also write the raw model outputs: one safetensors file per image in this folder, of a detector with `boxes` (`[N, 4]` xyxy),
    /// `labels`, `scores`, `masks` (`[N, 1, H, W]` probabilities) and `keypoints` (`[N, K, 3]`), in pixels of the model's input image; else `logits`.
    #[arg(long, value_name = "DIR")]
    raw: Option<PathBuf>,
    /// Score threshold. By default results have all detections, and those with a score of at least 0.5 are drawn.
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f64>,
    /// How many classes of each image a classifier's results have.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    top_k: u64,
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

/// Says what a trained model sees in images, and writes it down.
///
/// # Errors
/// When an image, the weights or the pipeline's model is unsuitable, or a file cannot be written.
pub fn predict(args: &PredictArgs) -> Result<Status> {
    let mut loaded = args.pipeline.load();
    if loaded.plan.is_none() && plan_or_tell(&loaded)?.is_none() {
        return Ok(Status::Wrong);
    }
    let Some(plan) = &mut loaded.plan else { return Ok(Status::Wrong) };
    let interrupt = Signals::listen(STOPPING)?;
    let partial =
        Partial::open(plan, loaded.catalog.clone(), args.device.as_deref(), interrupt.requests.interrupt.clone())?;
    let id = choose(plan, Kind::Model, args.model.as_deref(), model::predicts, "model that predicts")?.clone();
    let (pictures, categories) = find_pictures(args, plan, &partial)?;
    let format = args.as_.unwrap_or_else(|| usual_format(plan, &id));
    let mut folders: Vec<&Path> = [&args.draw, &args.raw].into_iter().flatten().map(PathBuf::as_path).collect();
    folders.extend((format != As::Json).then_some(args.out.as_path()));
    refuse_overwriting(&pictures, (format == As::Json).then_some(args.out.as_path()), &folders)?;
    let weights = weights_for(&args.pipeline, args.weights.as_deref(), plan, &id)?;
    let predictor = Predictor::build(plan, &partial, &id, weights)?;
    for folder in [&args.draw, &args.raw].into_iter().flatten() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let start = Instant::now();
    let threshold = args.threshold.unwrap_or(0.0);
    let mut writer = Writer::new(format, &args.out, args.top_k as usize, threshold, &predictor.names)?;
    writer.take_categories(&categories);
    let bar = progress(pictures.len());
    let mut unread = 0;
    for (done, pictures) in pictures.chunks(args.batch_size as usize).enumerate() {
        if partial.context().interrupted() {
            return Ok(Status::Signalled(interrupt.status()));
        }
        let (pictures, read): (Vec<&Picture>, Vec<Image>) =
            pictures.iter().filter_map(|picture| picture.read_or_tell(predictor.exif, &mut unread)).unzip();
        if !pictures.is_empty() {
            let found = predictor.run(&pictures, &read, done as u64, args.raw.as_deref())?;
            write_batch(args, &mut writer, &predictor, &pictures, &read, &found)?;
        }
        bar.inc(args.batch_size);
    }
    bar.finish_and_clear();
    let count = writer.count;
    writer.finish()?;
    ensure!(
        unread == 0,
        "{unread} of {} images could not be read; the results of the others are in {}",
        pictures.len(),
        args.out.display()
    );
    summary(args, plan, &id, pictures.len(), count, start.elapsed().as_secs_f64())
}

/// The images, and the ids that annotations have for categories.
fn find_pictures(args: &PredictArgs, plan: &Plan, partial: &Partial) -> Result<(Vec<Picture>, BTreeMap<String, u32>)> {
    if let Some(name) = &args.split {
        let id = choose(plan, Kind::Dataset, Some(name), |_| true, "dataset")?;
        let Instance::Dataset(dataset) = partial.build(plan, id)? else { bail!("{id} is not a dataset") };
        return Ok(of_dataset(&dataset));
    }
    let mut pictures = pictures(&args.images)?;
    let mut categories = BTreeMap::new();
    match &args.annotations {
        Some(file) => categories = take_ids(&mut pictures, file)?,
        None if pictures.iter().any(|picture| picture.counted) => tracing::warn!(
            "the file names are no ids, so the images are numbered from 1; `pipe score` goes by `file_name`, other \
             programs need `--annotations`"
        ),
        None => {}
    }
    Ok((pictures, categories))
}

fn write_batch(
    args: &PredictArgs,
    writer: &mut Writer,
    predictor: &Predictor,
    pictures: &[&Picture],
    images: &[Image],
    found: &[Found],
) -> Result<()> {
    for ((picture, image), found) in pictures.iter().zip(images).zip(found) {
        if let Some(folder) = &args.draw {
            let threshold = args.threshold.unwrap_or(DRAWN_FROM);
            write::draw(folder, picture, image, found, threshold, &predictor.names)?;
        }
        writer.add(picture, image, found)?;
    }
    Ok(())
}

/// Whether the model adds a field.
fn adds(plan: &Plan, model: &NodeId, field: &str) -> bool {
    plan.nodes.get(model).is_some_and(|node| node.contract().adds.contains(field))
}

fn usual_format(plan: &Plan, model: &NodeId) -> As {
    if adds(plan, model, fields::SEGMENTATION_LOGITS) { As::Png } else { As::Json }
}

fn progress(images: usize) -> ProgressBar {
    let bar = terminal::bars().add(ProgressBar::new(images as u64));
    // The template is right; without it the bar has another look.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} images, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn summary(
    args: &PredictArgs,
    plan: &Plan,
    model: &NodeId,
    images: usize,
    count: usize,
    seconds: f64,
) -> Result<Status> {
    let detects = adds(plan, model, fields::DETECTIONS);
    print(&match args.format {
        Format::Text => {
            let objects = if detects { format!("{count} detections in ") } else { String::new() };
            let speed = images as f64 / seconds.max(1e-9);
            format!("{objects}{images} images, {speed:.1} images/s: {}\n", args.out.display())
        }
        Format::Json => {
            let mut summary = json!({ "images": images, "seconds": seconds, "out": args.out });
            if detects {
                summary["detections"] = count.into();
            }
            serde_json::to_string_pretty(&summary)? + "\n"
        }
    })
}
