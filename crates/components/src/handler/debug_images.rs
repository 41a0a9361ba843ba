//! `handler.debug_images`: detections, or classes of pixels, beside the ground truth.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind as Type, Tensor};

use super::pictures::{ClassNames, emit, picture};
use pipe_core::Handler;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Dataset, EventContext, Instance, Kind, NodeId, Ref, Stateful};
use pipe_data::{Batch, BatchField, Detections, fields};
use pipe_draw::RgbImage;
use pipe_vocab::objects::{Object, Objects, runs};

/// Logs images of a batch of detection or semantic segmentation: ground truth beside predictions, with boxes, masks, keypoints, class names and scores.
///
/// Call it on `iteration_completed`. On an evaluator, ground truth and predictions are shown side by side, as
/// `val/image_<iteration>_<n>`; in training, where a detector returns only losses, the ground truth alone, as
/// `train/image_<n>`. Masks alone, in the colors of their classes, are logged as `…_mask` (ground truth) and
/// `…_predicted_mask`, where there are any. Images are shown as the model sees them, after all transforms.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DebugImagesConfig {
    /// The dataset with the class names; without it, class numbers are shown.
    #[serde(default)]
    pub dataset: Option<Ref<dyn Dataset>>,
    /// Score threshold for detections to be shown.
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0, max = 1.0))]
    #[serde(default = "half")]
    pub threshold: f64,
    /// Maximum number of images per batch.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default = "four")]
    pub max_images: usize,
    /// Prefix of the tags; default `val` in evaluation and `train` in training.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub tag: Option<String>,
}

fn half() -> f64 {
    0.5
}

fn four() -> usize {
    4
}

impl Config for DebugImagesConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "debug_images";
    const EXAMPLE: &'static str = r#"
[dataset.val]
type = "coco"
root = "builtin:shapes"
split = "val"

[handler.debug_images]
type = "debug_images"
dataset = "dataset.val"
threshold = 0.4
max_images = 2

[[on]]
event = "engine.evaluator:iteration_completed"
every = 100
first = true
run = ["handler.debug_images"]
"#;

    fn facts(&self) -> Facts {
        Facts { costly: true, ..Facts::default() }
    }
}

impl Component for DebugImagesConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let names = match &self.dataset {
            Some(dataset) => ClassNames::of(&*ctx.get(dataset)?),
            None => ClassNames::default(),
        };
        Ok(Instance::handler(DebugImages { node: ctx.node.clone(), names, config: self }))
    }
}

pipe_core::register!(DebugImagesConfig);

/// The label of pixels without a class.
const NO_CLASS: i64 = 255;

/// So many detections of an image are kept, and none with a lower score, for those who look at it later.
const MOST: i64 = 100;
const LEAST: f64 = 0.05;

/// The running handler.
struct DebugImages {
    node: NodeId,
    config: DebugImagesConfig,
    names: ClassNames,
}

impl Stateful for DebugImages {}

impl Handler for DebugImages {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let step = ctx.step()?;
        let outputs = &step.output.outputs;
        let found = match outputs.get(fields::DETECTIONS) {
            Some(BatchField::Detections(found)) => Some(found),
            _ => None,
        };
        let scores = outputs.get(fields::SEGMENTATION_LOGITS).map(|_| outputs.list(fields::SEGMENTATION_LOGITS));
        let scores = scores.transpose()?;
        // A segmentation network predicts in training, too: then its scores have a gradient.
        let trains = scores.as_ref().is_some_and(|scores| scores.iter().any(Tensor::requires_grad));
        let images = step.batch.list(fields::IMAGE)?;
        for (n, image) in images.iter().enumerate().take(self.config.max_images) {
            let image = picture(image)?;
            let truth = truth(&step.batch, n)?;
            let found = found.and_then(|found| found.get(n));
            let found = match scores.as_ref().and_then(|scores| scores.get(n)) {
                Some(scores) => Some(regions(&scores.detach().f_argmax(0, false)?)?),
                None => found.map(|found| predicted(found, self.config.threshold)).transpose()?,
            };
            self.record(ctx, n, &image, &truth, found.as_ref(), trains)?;
        }
        Ok(())
    }
}

/// The objects of one image, or the regions of its classes, on the CPU.
#[derive(Default)]
struct Seen {
    /// None of regions.
    boxes: Vec<[f32; 4]>,
    labels: Vec<i64>,
    scores: Option<Vec<f32>>,
    crowd: Vec<i64>,
    /// `[N, H, W]`, 0 or 1; of fewer than all objects those of the first.
    masks: Option<(Vec<u8>, [usize; 2])>,
    keypoints: Vec<Vec<[f32; 3]>>,
}

impl DebugImages {
    /// Records the images of image `n` of the batch.
    fn record(
        &self,
        ctx: &EventContext<'_>,
        n: usize,
        image: &RgbImage,
        truth: &Seen,
        found: Option<&Seen>,
        trains: bool,
    ) -> Result<()> {
        let trains = trains || found.is_none();
        let group = self.config.tag.as_deref().unwrap_or(if trains { "train" } else { "val" });
        let tag = match trains {
            true => format!("{group}/image_{n}"),
            false => format!("{group}/image_{}_{n}", ctx.state.iteration),
        };
        let size = [image.height(), image.width()];
        let threshold = found.and_then(|found| found.scores.as_ref()).map(|_| self.config.threshold);
        let [truth, found] =
            [Some(truth), found].map(|seen| seen.map(|seen| (self.objects(seen, size), seen.masks.is_some())).unzip());
        let objects = Objects { truth: truth.0.clone(), found: found.0.clone(), threshold, only_masks: false };
        emit(ctx.run, &self.node, tag.clone(), image.clone(), Some(objects))?;
        let alone = Objects { threshold, only_masks: true, ..Objects::default() };
        let black = RgbImage::filled(size[0], size[1], [0; 3]);
        if truth.1 == Some(true) {
            let objects = Objects { truth: truth.0, ..alone.clone() };
            emit(ctx.run, &self.node, format!("{tag}_mask"), black.clone(), Some(objects))?;
        }
        if found.1 == Some(true) {
            let objects = Objects { found: found.0, ..alone };
            emit(ctx.run, &self.node, format!("{tag}_predicted_mask"), black, Some(objects))?;
        }
        Ok(())
    }

    fn objects(&self, seen: &Seen, size: [usize; 2]) -> Vec<Object> {
        let pixels = size[0] * size[1];
        let planes = seen.masks.as_ref().filter(|(_, own)| *own == size).map(|(planes, _)| planes);
        let mask = |at: usize| planes.and_then(|planes| planes.get(at * pixels..(at + 1) * pixels));
        let count = seen.boxes.len().max(seen.labels.len());
        let each = (0..count).map(|at| {
            let bbox = seen.boxes.get(at).copied().filter(|edges| edges.iter().all(|edge| edge.is_finite()));
            let points = seen.keypoints.get(at).cloned().unwrap_or_default();
            Object {
                class: seen.labels.get(at).copied().unwrap_or_default(),
                name: seen.labels.get(at).map_or_else(String::new, |label| self.names.get(*label)),
                bbox,
                score: seen.scores.as_ref().and_then(|scores| scores.get(at).copied()),
                crowd: seen.crowd.get(at) == Some(&1),
                mask: mask(at).map(runs).unwrap_or_default(),
                points: points.into_iter().filter(|point| point.iter().all(|number| number.is_finite())).collect(),
            }
        });
        each.collect()
    }
}

/// The ground truth of sample `n`; fields missing from the batch are skipped.
fn truth(batch: &Batch, n: usize) -> Result<Seen> {
    let field = |name: &str| -> Result<Option<Tensor>> {
        let Some(field) = batch.get(name) else { return Ok(None) };
        Ok(match field {
            BatchField::Stacked(_) | BatchField::List(_) => batch.list(name)?.into_iter().nth(n),
            _ => None,
        })
    };
    if let Some(classes) = field(fields::SEGMENTATION)? {
        return regions(&classes);
    }
    Ok(Seen {
        boxes: field(fields::BOXES)?.map_or_else(|| Ok(Vec::new()), |boxes| box_list(&boxes))?,
        labels: field(fields::LABELS)?.map_or_else(|| Ok(Vec::new()), |labels| integers(&labels))?,
        crowd: field(fields::ISCROWD)?.map_or_else(|| Ok(Vec::new()), |crowd| integers(&crowd))?,
        scores: None,
        masks: field(fields::MASKS)?.map(|masks| planes(&masks)).transpose()?,
        keypoints: field(fields::KEYPOINTS)?.map_or_else(|| Ok(Vec::new()), |points| points_of(&points))?,
    })
}

/// The regions of the classes `[H, W]`, without the background and what has no class.
fn regions(classes: &Tensor) -> Result<Seen> {
    let (height, width) = classes.size2()?;
    let classes = integers(classes)?;
    let mut labels: Vec<i64> = classes.iter().copied().filter(|class| !matches!(*class, 0 | NO_CLASS)).collect();
    labels.sort_unstable();
    labels.dedup();
    let planes = labels.iter().flat_map(|label| classes.iter().map(move |class| u8::from(class == label))).collect();
    Ok(Seen { labels, masks: Some((planes, [height as usize, width as usize])), ..Seen::default() })
}

/// The detections from the highest score on, those below `threshold` without masks.
fn predicted(found: &Detections, threshold: f64) -> Result<Seen> {
    let (scores, order) = found.scores.detach().sort(0, true);
    let scores = Vec::<f32>::try_from(scores.to_device(Device::Cpu).to_kind(Type::Float))?;
    let from = |least: f64| scores.iter().take(MOST as usize).take_while(|score| **score >= least as f32).count();
    let (kept, sure) = (from(threshold.min(LEAST)), from(threshold));
    let keep = order.narrow(0, 0, kept as i64);
    let chosen = |tensor: &Tensor| tensor.index_select(0, &keep);
    let first = |masks: &Tensor| masks.index_select(0, &keep.narrow(0, 0, sure as i64)).squeeze_dim(1).ge(0.5);
    Ok(Seen {
        boxes: box_list(&chosen(&found.boxes))?,
        labels: integers(&chosen(&found.labels))?,
        scores: Some(scores[..kept].to_vec()),
        crowd: Vec::new(),
        masks: found.masks.as_ref().map(|masks| planes(&first(masks))).transpose()?,
        keypoints: found.keypoints.as_ref().map_or_else(|| Ok(Vec::new()), |points| points_of(&chosen(points)))?,
    })
}

fn box_list(boxes: &Tensor) -> Result<Vec<[f32; 4]>> {
    let flat = Vec::<f32>::try_from(boxes.detach().to_device(Device::Cpu).to_kind(Type::Float).flatten(0, -1))?;
    Ok(flat.as_chunks::<4>().0.to_vec())
}

fn points_of(keypoints: &Tensor) -> Result<Vec<Vec<[f32; 3]>>> {
    let (_, each, _) = keypoints.size3()?;
    let flat = Vec::<f32>::try_from(keypoints.detach().to_device(Device::Cpu).to_kind(Type::Float).flatten(0, -1))?;
    Ok(flat.as_chunks::<3>().0.chunks(each.max(1) as usize).map(<[_]>::to_vec).collect())
}

fn integers(values: &Tensor) -> Result<Vec<i64>> {
    Ok(Vec::try_from(values.to_device(Device::Cpu).to_kind(Type::Int64).flatten(0, -1))?)
}

fn planes(masks: &Tensor) -> Result<(Vec<u8>, [usize; 2])> {
    let (_, height, width) = masks.size3()?;
    let bytes = Vec::try_from(masks.to_device(Device::Cpu).to_kind(Type::Uint8).flatten(0, -1))?;
    Ok((bytes, [height as usize, width as usize]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use pipe_core::Step;
    use pipe_run::testing::TestRun;

    fn step(found: bool) -> Step {
        let mut step = Step { batch: Batch::new(3), ..Step::default() };
        let float = (Type::Float, Device::Cpu);
        let boxes = || Tensor::from_slice(&[4f32, 4.0, 20.0, 20.0]).view([1, 4]);
        let all = |tensor: &dyn Fn() -> Tensor| BatchField::List((0..3).map(|_| tensor()).collect());
        step.batch.set(fields::IMAGE, BatchField::Stacked(Tensor::rand([3, 3, 32, 48], float)));
        step.batch.set(fields::BOXES, all(&boxes));
        step.batch.set(fields::LABELS, all(&|| Tensor::from_slice(&[1i64])));
        step.batch.set(fields::MASKS, all(&|| Tensor::ones([1, 32, 48], (Type::Uint8, Device::Cpu))));
        if found {
            let detections = |_| {
                let (boxes, labels) = (Tensor::cat(&[boxes(), boxes()], 0), Tensor::from_slice(&[1i64, 2]));
                let masks = Some(Tensor::ones([2, 1, 32, 48], float));
                Detections { masks, ..Detections::new(boxes, labels, Tensor::from_slice(&[0.9f32, 0.2])) }
            };
            let all = (0..3).map(detections).collect();
            step.output.outputs.set(fields::DETECTIONS, BatchField::Detections(all));
        }
        step
    }

    fn records(test: &TestRun) -> Vec<serde_json::Value> {
        test.run.folder.flush_records().unwrap();
        test.run.folder.history_lengths().unwrap();
        let text = std::fs::read_to_string(test.run.folder.records_path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn training_shows_the_truth_and_evaluation_both() {
        let test = TestRun::new();
        let handler = test.handler("handler.d", json!({ "type": "debug_images", "max_images": 2 }));
        test.call(&handler, "iteration_completed", Some(&step(false))).unwrap();
        test.call(&handler, "iteration_completed", Some(&step(true))).unwrap();
        let records = records(&test);
        let tags: Vec<&str> = records.iter().map(|record| record["tag"].as_str().unwrap()).collect();
        let expected = [
            "train/image_0",
            "train/image_0_mask",
            "train/image_1",
            "train/image_1_mask",
            "val/image_7_0",
            "val/image_7_0_mask",
            "val/image_7_0_predicted_mask",
            "val/image_7_1",
            "val/image_7_1_mask",
            "val/image_7_1_predicted_mask",
        ];
        assert_eq!(tags, expected);
        assert!(records.iter().all(|record| record["value"] == json!({ "height": 32, "width": 48 })), "as they are");
        let media = pipe_history::Media::open(test.run.folder.path()).unwrap();
        let value = |at: usize| media.value(&media.items[at]).unwrap();
        assert_eq!(
            (value(0)["objects"]["truth"].as_array().unwrap().len(), value(0)["objects"].get("found")),
            (1, None)
        );
        let (both, found) = (value(4)["objects"].clone(), value(4)["objects"]["found"].clone());
        assert_eq!((&both["threshold"], &found[0]["box"]), (&json!(0.5), &json!([4.0, 4.0, 20.0, 20.0])));
        assert_eq!(both["truth"][0]["mask"], json!([0, 32 * 48]));
        // What is not drawn at first is there, but for its mask.
        assert_eq!((&found[1]["score"], found[1].get("mask")), (&json!(0.2), None));
        assert_eq!(
            (value(6)["objects"]["only_masks"].clone(), value(6)["file"].clone()),
            (json!(true), value(5)["file"].clone())
        );
    }

    #[test]
    fn classes_of_pixels_are_shown_as_regions() {
        let test = TestRun::new();
        let handler = test.handler("handler.d", json!({ "type": "debug_images", "max_images": 1 }));
        let float = (Type::Float, Device::Cpu);
        let mut step = Step { batch: Batch::new(1), ..Step::default() };
        let classes = Tensor::from_slice(&[0i64, 1, 1, 255, 3, 0]).view([1, 2, 3]);
        step.batch.set(fields::IMAGE, BatchField::Stacked(Tensor::rand([1, 3, 2, 3], float)));
        step.batch.set(fields::SEGMENTATION, BatchField::Stacked(classes.shallow_clone()));
        let scores = Tensor::rand([1, 4, 2, 3], float);
        step.output.outputs.set(fields::SEGMENTATION_LOGITS, BatchField::Stacked(scores.shallow_clone()));
        test.call(&handler, "iteration_completed", Some(&step)).unwrap();
        let _ = scores.set_requires_grad(true);
        test.call(&handler, "iteration_completed", Some(&step)).unwrap();
        let records = records(&test);
        let tags: Vec<&str> = records.iter().map(|record| record["tag"].as_str().unwrap()).collect();
        let of = |tag: &str| [tag.to_owned(), format!("{tag}_mask"), format!("{tag}_predicted_mask")];
        assert_eq!(tags, [of("val/image_7_0"), of("train/image_0")].concat());
        let regions = regions(&classes.get(0)).unwrap();
        assert_eq!(regions.labels, [1, 3], "neither the background nor what has no class");
        assert_eq!(regions.masks.unwrap(), (vec![0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0], [2, 3]));
    }

    #[test]
    fn detections_below_the_threshold_have_no_masks() {
        let step = step(true);
        let Some(BatchField::Detections(found)) = step.output.outputs.get(fields::DETECTIONS) else { panic!() };
        let seen = |threshold: f64| {
            let seen = predicted(&found[0], threshold).unwrap();
            (seen.labels, seen.masks.unwrap().0.len() / (32 * 48))
        };
        assert_eq!((seen(0.5), seen(0.1)), ((vec![1, 2], 1), (vec![1, 2], 2)));
        assert_eq!(seen(0.95), (vec![1, 2], 0));
    }

    #[test]
    fn another_event_is_an_error_that_says_which() {
        let test = TestRun::new();
        let handler = test.handler("handler.d", json!({ "type": "debug_images" }));
        let error = test.call(&handler, "epoch_completed", None).unwrap_err().to_string();
        assert!(error.contains("iteration_completed"), "{error}");
    }
}
