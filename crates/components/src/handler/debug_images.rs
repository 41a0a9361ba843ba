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
use pipe_draw::{DrawOptions, MaskRef, RgbImage, draw_instances, side_by_side};

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
/// Opacity of masks drawn alone: where they overlap, both are visible.
const MASK_ALPHA: f32 = 0.6;

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
struct Objects {
    /// None of regions.
    boxes: Vec<[f32; 4]>,
    labels: Vec<i64>,
    scores: Option<Vec<f32>>,
    crowd: Vec<i64>,
    /// `[N, H, W]`, 0 or 1.
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
        truth: &Objects,
        found: Option<&Objects>,
        trains: bool,
    ) -> Result<()> {
        let trains = trains || found.is_none();
        let group = self.config.tag.as_deref().unwrap_or(if trains { "train" } else { "val" });
        let options = DrawOptions::default();
        let drawn = self.draw(image, truth, &options)?;
        let drawn = match found {
            Some(found) => {
                let predicted = self.draw(image, found, &options)?;
                let title = match found.scores.as_ref().is_some_and(Vec::is_empty) {
                    true => format!("no prediction with score ≥ {}", self.config.threshold),
                    false => "prediction".to_owned(),
                };
                side_by_side(&drawn, &predicted, ["ground truth", &title])
            }
            None => drawn,
        };
        let tag = match trains {
            true => format!("{group}/image_{n}"),
            false => format!("{group}/image_{}_{n}", ctx.state.iteration),
        };
        emit(ctx.run, &self.node, tag.clone(), drawn)?;
        for (objects, what) in [(Some(truth), "mask"), (found, "predicted_mask")] {
            if let Some(objects) = objects.filter(|objects| objects.masks.is_some()) {
                let black = RgbImage::filled(image.height(), image.width(), [0; 3]);
                let options = DrawOptions { boxes: false, labels: false, mask_alpha: MASK_ALPHA, ..options.clone() };
                emit(ctx.run, &self.node, format!("{tag}_{what}"), self.draw(&black, objects, &options)?)?;
            }
        }
        Ok(())
    }

    fn draw(&self, image: &RgbImage, objects: &Objects, options: &DrawOptions) -> Result<RgbImage> {
        let names: Vec<String> = objects.labels.iter().map(|label| self.names.get(*label)).collect();
        let count = objects.boxes.len().max(objects.labels.len());
        let mut instances = Vec::with_capacity(count);
        for i in 0..count {
            let mask = match &objects.masks {
                Some((planes, [height, width])) if (*height, *width) == (image.height(), image.width()) => {
                    let plane = planes.get(i * height * width..(i + 1) * height * width);
                    plane.map(|plane| MaskRef::new(plane, *height, *width)).transpose()?
                }
                _ => None,
            };
            instances.push(pipe_draw::Instance {
                bbox: objects.boxes.get(i).copied(),
                mask,
                keypoints: objects.keypoints.get(i).map_or(&[], Vec::as_slice),
                label: names.get(i).map_or("", String::as_str),
                class_id: objects.labels.get(i).copied().unwrap_or_default(),
                score: objects.scores.as_ref().and_then(|scores| scores.get(i).copied()),
                crowd: objects.crowd.get(i) == Some(&1),
            });
        }
        Ok(draw_instances(image, &instances, options))
    }
}

/// The ground truth of sample `n`; fields missing from the batch are skipped.
fn truth(batch: &Batch, n: usize) -> Result<Objects> {
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
    Ok(Objects {
        boxes: field(fields::BOXES)?.map_or_else(|| Ok(Vec::new()), |boxes| box_list(&boxes))?,
        labels: field(fields::LABELS)?.map_or_else(|| Ok(Vec::new()), |labels| integers(&labels))?,
        crowd: field(fields::ISCROWD)?.map_or_else(|| Ok(Vec::new()), |crowd| integers(&crowd))?,
        scores: None,
        masks: field(fields::MASKS)?.map(|masks| planes(&masks)).transpose()?,
        keypoints: field(fields::KEYPOINTS)?.map_or_else(|| Ok(Vec::new()), |points| points_of(&points))?,
    })
}

/// The regions of the classes `[H, W]`, without the background and what has no class.
fn regions(classes: &Tensor) -> Result<Objects> {
    let (height, width) = classes.size2()?;
    let classes = integers(classes)?;
    let mut labels: Vec<i64> = classes.iter().copied().filter(|class| !matches!(*class, 0 | NO_CLASS)).collect();
    labels.sort_unstable();
    labels.dedup();
    let planes = labels.iter().flat_map(|label| classes.iter().map(move |class| u8::from(class == label))).collect();
    Ok(Objects { labels, masks: Some((planes, [height as usize, width as usize])), ..Objects::default() })
}

/// The detections with a score of at least `threshold`.
fn predicted(found: &Detections, threshold: f64) -> Result<Objects> {
    let keep = found.scores.ge(threshold).nonzero().view([-1]);
    let chosen = |tensor: &Tensor| tensor.index_select(0, &keep);
    let masks = found.masks.as_ref().map(|masks| planes(&chosen(masks).squeeze_dim(1).ge(0.5))).transpose()?;
    let scores = chosen(&found.scores).detach().to_device(Device::Cpu).to_kind(Type::Float);
    Ok(Objects {
        boxes: box_list(&chosen(&found.boxes))?,
        labels: integers(&chosen(&found.labels))?,
        scores: Some(Vec::try_from(scores)?),
        crowd: Vec::new(),
        masks,
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
        let width = |i: usize| records[i]["value"]["width"].as_u64().unwrap();
        assert!(width(4) > 2 * width(0), "{} beside {}", width(4), width(0));
        assert_eq!(width(5), width(0));
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
    fn only_detections_from_the_threshold_on_are_shown() {
        let step = step(true);
        let Some(BatchField::Detections(found)) = step.output.outputs.get(fields::DETECTIONS) else { panic!() };
        assert_eq!(predicted(&found[0], 0.5).unwrap().labels, [1]);
        assert_eq!(predicted(&found[0], 0.1).unwrap().masks.unwrap().0.len(), 2 * 32 * 48);
        let none = predicted(&found[0], 0.95).unwrap();
        assert!(none.boxes.is_empty() && none.scores == Some(Vec::new()));
    }

    #[test]
    fn another_event_is_an_error_that_says_which() {
        let test = TestRun::new();
        let handler = test.handler("handler.d", json!({ "type": "debug_images" }));
        let error = test.call(&handler, "epoch_completed", None).unwrap_err().to_string();
        assert!(error.contains("iteration_completed"), "{error}");
    }
}
