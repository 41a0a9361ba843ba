//! COCO's average precision and recall.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{detections, diagnostics};
use pipe_coco::diagnose::{Diagnostics, diagnose};
use pipe_coco::eval;
use pipe_coco::eval::{Detection, Evaluator, ResultEntry, Summary};
use pipe_coco::index::Index;
use pipe_core::facts::{Better, Facts};
use pipe_core::{
    BuildContext, Component, Config, Contract, Dataset, Instance, Kind, ModelOutput, Ref, State, Stateful,
};
use pipe_core::{Metric, MetricReport};
use pipe_data::{Batch, BatchField, fields};

/// COCO average precision and recall of detections, with the same numbers as pycocotools.
///
/// Boxes, masks and keypoints are scaled to the size of the image on disk and compared there with the annotations of the
/// file, crowds included. So the loader's transform may resize images, but must not crop, flip or pad them. Evaluated are
/// the images seen since the reset.
///
/// Values, for each of `iou_types`: `bbox/AP`, `bbox/AP50`, `bbox/AP75`, `bbox/APs`, `bbox/APm`, `bbox/APl`, `bbox/AR1`,
/// `bbox/AR10`, `bbox/AR100`, `bbox/ARs`, `bbox/ARm`, `bbox/ARl`; of keypoints `keypoints/AP`, `keypoints/AP50`, `keypoints/AP75`,
/// `keypoints/APm`, `keypoints/APl`, and `AR` likewise; −1 where there is no ground truth. The text is the lines that pycocotools prints.
/// Of a model that finds no masks, `segm` is left out, with a warning, and of one that finds no keypoints, `keypoints`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CocoApConfig {
    /// The dataset with the ground truth: the one that the evaluation's loader reads.
    pub dataset: Ref<dyn Dataset>,
    /// What to evaluate: boxes (`bbox`), masks (`segm`), keypoints (`keypoints`), or several.
    #[schemars(length(min = 1))]
    #[serde(default = "boxes")]
    pub iou_types: Vec<IouType>,
    /// For keypoints, the constant of each in the object keypoint similarity: how far apart people put it. Default: COCO's for a
    /// person's 17, otherwise 0.067 for each.
    #[schemars(inner(range(min = 0.0)))]
    #[serde(default)]
    pub oks_sigmas: Option<Vec<f64>>,
    /// Also report the average precision of every class: `bbox/AP/<class>`.
    #[serde(default)]
    pub per_class: bool,
    /// Write the detections of each evaluation to this file, in COCO's results format: a name in the run's folder, or an absolute
    /// path.
    #[serde(default)]
    pub results: Option<String>,
    /// Diagnose each evaluation, and write what comes out into this folder, a name in the run's folder or an absolute path: `bbox/diagnostics.json`
    /// and, as images, precision, recall and F1 over confidence, precision over recall, and the confusion matrix with background. The images are
    /// recorded as well, with a precision-recall curve of each class; the text tells the best threshold, errors by kind (TIDE) and the worst images.
    /// By loss too, where another metric has the model give its losses: each image has its own part in them. All is at IoU 0.50, the
    /// confusion matrix and the images at the confidence with the highest mean F1.
    #[serde(default)]
    pub diagnostics: Option<String>,
}

fn boxes() -> Vec<IouType> {
    vec![IouType::Bbox]
}

/// What to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IouType {
    /// Boxes.
    Bbox,
    /// Masks.
    Segm,
    /// Keypoints.
    Keypoints,
}

impl IouType {
    fn of_eval(self) -> eval::IouType {
        match self {
            IouType::Bbox => eval::IouType::Bbox,
            IouType::Segm => eval::IouType::Segm,
            IouType::Keypoints => eval::IouType::Keypoints,
        }
    }
}

impl Config for CocoApConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "coco_ap";
    const EXAMPLE: &'static str = r#"
[dataset.val]
type = "coco"
root = "builtin:shapes"
split = "val2017"

[metric.coco]
type = "coco_ap"
dataset = "dataset.val"
iou_types = ["bbox", "segm"]
"#;

    fn facts(&self) -> Facts {
        Facts { truth: true, ..Facts::of_values(self.values(), Better::Higher) }
    }

    fn contract(&self) -> Contract {
        let fields = [fields::IMAGE, fields::IMAGE_ID, fields::ORIGINAL_SIZE, fields::DETECTIONS];
        self.iou_types.iter().fold(Contract::default().needs(fields), |contract, iou| match iou {
            IouType::Bbox => contract,
            IouType::Segm => contract.wants(fields::DETECTION_MASKS, "segm/"),
            IouType::Keypoints => contract.needs([fields::KEYPOINTS]).wants(fields::DETECTION_KEYPOINTS, "keypoints/"),
        })
    }

    fn values(&self) -> Vec<String> {
        let of = |iou: eval::IouType| Summary::names(iou).iter().map(move |name| format!("{}/{name}", iou.name()));
        self.iou_types.iter().flat_map(|iou| of(iou.of_eval())).collect()
    }
}

impl Component for CocoApConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let dataset = ctx.get(&self.dataset)?;
        let truth = dataset.extension().and_then(|more| more.downcast_ref::<Arc<Index>>());
        let truth = truth.with_context(|| format!("{} has no COCO annotations", self.dataset.node))?;
        let results = self.results.as_ref().map(|name| ctx.folder().join(name));
        let diagnostics = self.diagnostics.as_ref().map(|name| ctx.folder().join(name));
        Ok(Instance::metric(CocoAp { diagnostics, ..CocoAp::new(truth, &self, results)? }))
    }
}

pipe_core::register!(CocoApConfig);

struct CocoAp {
    truth: Arc<Index>,
    evaluators: Vec<(eval::IouType, Evaluator)>,
    per_class: bool,
    results: Option<PathBuf>,
    /// What is to be written there.
    entries: Vec<Value>,
    diagnostics: Option<PathBuf>,
    /// Of each image its own part in the losses, summed, where the model gives them and they are asked for.
    losses: BTreeMap<i64, f64>,
    /// What the model does not find.
    left_out: Vec<eval::IouType>,
}

impl CocoAp {
    fn new(truth: &Arc<Index>, config: &CocoApConfig, results: Option<PathBuf>) -> Result<CocoAp> {
        let kinds = config.iou_types.iter().map(|iou| iou.of_eval());
        let errors = config.diagnostics.is_some();
        let evaluator = |iou: eval::IouType| {
            let evaluator = Evaluator::new(truth, iou).diagnosing(errors);
            if iou != eval::IouType::Keypoints {
                return Ok((iou, evaluator));
            }
            let without = "it has no keypoints to evaluate: set `keypoints = true`";
            ensure!(truth.keypoint_count() > 0, "{}: {without}", config.dataset.node);
            match &config.oks_sigmas {
                Some(sigmas) => Ok((iou, evaluator.with_sigmas(sigmas.clone()).context("`oks_sigmas`")?)),
                None => Ok((iou, evaluator)),
            }
        };
        let evaluators = kinds.map(evaluator).collect::<Result<_>>()?;
        let (truth, per_class) = (truth.clone(), config.per_class);
        Ok(CocoAp {
            truth,
            evaluators,
            per_class,
            results,
            entries: Vec::new(),
            diagnostics: None,
            losses: BTreeMap::new(),
            left_out: Vec::new(),
        })
    }

    /// Those of what the model finds.
    fn evaluators(&mut self) -> impl Iterator<Item = &mut Evaluator> {
        let of_found = self.evaluators.iter_mut().filter(|(iou, _)| !self.left_out.contains(iou));
        of_found.map(|(_, evaluator)| evaluator)
    }

    /// Keeps the detections of an image for the results.
    fn keep(&mut self, id: i64, found: &[Detection]) {
        let image = self.truth.position(id).map(|position| &self.truth.images()[position]);
        let file_name = image.map_or("", |image| &*image.file_name);
        let entry =
            |found: &Detection| ResultEntry::to_json(id, found, file_name, self.truth.category_name(found.category_id));
        self.entries.extend(found.iter().map(entry));
    }

    fn add(&mut self, state: &State) -> Result<()> {
        for (iou, evaluator) in &mut self.evaluators {
            if let Some(saved) = state.values.get(iou.name()) {
                evaluator.merge(serde_json::from_value(saved.clone())?)?;
            }
        }
        let losses = state.values.get("losses").map(|saved| serde_json::from_value::<Vec<(i64, f64)>>(saved.clone()));
        self.losses.extend(losses.transpose()?.into_iter().flatten());
        self.entries.extend(state.values.get("results").and_then(Value::as_array).into_iter().flatten().cloned());
        Ok(())
    }

    /// The diagnostics of one of the evaluations.
    fn diagnose(&self, summary: &Summary) -> Result<Diagnostics> {
        let own = self.evaluators.iter().find(|(iou, _)| *iou == summary.iou);
        let (_, evaluator) = own.context("a summary of another evaluation")?;
        let mut diagnostics = diagnose(&self.truth, evaluator.state(), summary)?;
        for image in &mut diagnostics.worst_images {
            image.loss = self.losses.get(&image.id).copied();
        }
        Ok(diagnostics)
    }

    fn values(&self, summary: &Summary, values: &mut Vec<(String, f64)>) {
        let name = summary.iou.name();
        // A metric without data says NaN.
        let shown = |value: f64| if summary.images == 0 { f64::NAN } else { value };
        values.extend(summary.named().map(|(stat, value)| (format!("{name}/{stat}"), shown(value))));
    }
}

impl Metric for CocoAp {
    fn reset(&mut self) {
        self.evaluators.iter_mut().for_each(|(_, evaluator)| evaluator.reset());
        self.entries.clear();
        self.losses.clear();
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()> {
        let found = match output.outputs.get(fields::DETECTIONS) {
            Some(BatchField::Detections(found)) => found,
            _ => bail!("the model's output has no field `{}`", fields::DETECTIONS),
        };
        let images = batch.list(fields::IMAGE)?;
        let ids: Vec<i64> = integers(batch, fields::IMAGE_ID)?;
        let sizes: Vec<i64> = integers(batch, fields::ORIGINAL_SIZE)?;
        ensure!(
            [images.len(), ids.len(), sizes.len() / 2] == [found.len(); 3],
            "{} images, {} ids and {} sizes for the detections of {}",
            images.len(),
            ids.len(),
            sizes.len() / 2,
            found.len()
        );
        let lacks = |iou: eval::IouType| match iou {
            eval::IouType::Bbox => false,
            eval::IouType::Segm => found.iter().all(|found| found.masks.is_none()),
            eval::IouType::Keypoints => found.iter().all(|found| found.keypoints.is_none()),
        };
        let kinds = self.evaluators.iter().map(|(iou, _)| *iou);
        self.left_out = kinds.clone().filter(|iou| lacks(*iou)).collect();
        if self.left_out.len() == self.evaluators.len() {
            // Nothing is left: what is missing is told.
            self.left_out.clear();
        }
        let masks = kinds.clone().any(|iou| iou == eval::IouType::Segm && !self.left_out.contains(&iou));
        let mut of_images = Vec::with_capacity(found.len());
        for (i, found) in found.iter().enumerate() {
            let (_, height, width) = images[i].size3().context("an image must be [C, H, W]")?;
            let found = detections::to_coco(found, [height, width], [sizes[2 * i], sizes[2 * i + 1]], masks);
            of_images.push((ids[i], found.with_context(|| format!("image {}", ids[i]))?));
        }
        if self.results.is_some() {
            of_images.iter().for_each(|(id, found)| self.keep(*id, found));
        }
        if self.diagnostics.is_some() && output.outputs.get(fields::IMAGE_LOSSES).is_some() {
            let losses = Vec::<f64>::try_from(output.outputs.stacked(fields::IMAGE_LOSSES)?)?;
            self.losses.extend(ids.iter().copied().zip(losses));
        }
        for evaluator in self.evaluators() {
            evaluator.add_all(of_images.clone())?;
        }
        Ok(())
    }

    fn uses_image_losses(&self) -> bool {
        self.diagnostics.is_some()
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, other: &State) -> Result<()> {
        self.add(other)
    }

    fn compute(&mut self) -> Result<MetricReport> {
        let summaries: Vec<Summary> = self.evaluators().map(|evaluator| evaluator.finish()).collect();
        let (mut values, mut records) = (Vec::new(), Vec::new());
        summaries.iter().for_each(|summary| self.values(summary, &mut values));
        let mut text = String::new();
        for summary in &summaries {
            let name = summary.iou.name();
            if self.per_class {
                let classes = summary.per_class.iter().filter(|_| summary.images > 0);
                values.extend(classes.map(|class| (format!("{name}/AP/{}", class.name), class.ap)));
            }
            text.push_str(&format!("{name}, {} images\n{summary}\n", summary.images));
            if summary.images > 0
                && let Some(folder) = &self.diagnostics
            {
                let diagnostics = self.diagnose(summary)?;
                diagnostics::write(folder, &diagnostics)?;
                text.push_str(&format!("\n{}", diagnostics::text(&diagnostics, self.per_class)));
                records.extend(diagnostics::records(&diagnostics));
            }
        }
        if let Some(path) = &self.results {
            pipe_vocab::atomic::write(path, &serde_json::to_vec(&self.entries)?)?;
        }
        // The same detections for boxes and masks.
        if let Some(count) = summaries.iter().map(|summary| summary.unknown_categories).max().filter(|count| *count > 0)
        {
            tracing::info!("{count} detections have labels that are not in the annotations; they are ignored");
        }
        let text = summaries.iter().any(|summary| summary.images > 0).then_some(text);
        Ok(MetricReport { values, text, records })
    }
}

/// A field of integers, the samples' concatenated.
fn integers(batch: &Batch, field: &str) -> Result<Vec<i64>> {
    let tensor = batch.stacked(field)?.to_device(tch::Device::Cpu).to_kind(tch::Kind::Int64);
    Ok(tensor.flatten(0, -1).try_into()?)
}

impl Stateful for CocoAp {
    fn state(&self) -> Result<State> {
        let mut state = State::default();
        for (iou, evaluator) in self.evaluators.iter().filter(|(_, evaluator)| evaluator.image_count() > 0) {
            state.values.insert(iou.name().into(), serde_json::to_value(evaluator.state())?);
        }
        if !self.entries.is_empty() {
            state.values.insert("results".into(), self.entries.clone().into());
        }
        if !self.losses.is_empty() {
            state.values.insert("losses".into(), serde_json::to_value(self.losses.iter().collect::<Vec<_>>())?);
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.reset();
        self.add(state)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::{Device, Kind, Tensor};

    use pipe_core::Metric;
    use pipe_core::ModelOutput;
    use pipe_core::{Instance, Shared};
    use pipe_data::{Batch, BatchField, Detections, fields};
    use pipe_run::testing::{TestRun, assert_close, stored};

    const SIDE: i64 = 64;

    /// Two images on disk of 64 by 64, each with a square and a disc's box in the class 1 or 2.
    fn run() -> (TestRun, tempfile::TempDir) {
        let root = tempfile::tempdir().unwrap();
        let annotation = |id: i64, image: i64, class: i64, [x, y, w, h]: [i64; 4]| {
            json!({ "id": id, "image_id": image, "category_id": class, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0,
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]] })
        };
        let images = [10, 20].map(|id| json!({ "id": id, "height": SIDE, "width": SIDE, "file_name": "a.png" }));
        let file = json!({
            "images": images,
            "categories": [{ "id": 1, "name": "cat" }, { "id": 2, "name": "dog" }],
            "annotations": [annotation(1, 10, 1, [4, 8, 20, 12]), annotation(2, 20, 2, [30, 30, 16, 24])],
        });
        std::fs::create_dir_all(root.path().join("annotations")).unwrap();
        std::fs::create_dir_all(root.path().join("val")).unwrap();
        std::fs::write(root.path().join("val/a.png"), "").unwrap();
        std::fs::write(root.path().join("annotations/instances_val.json"), file.to_string()).unwrap();
        let run = TestRun::new();
        run.try_build("dataset.val", json!({ "type": "coco", "root": root.path(), "split": "val" })).unwrap();
        (run, root)
    }

    fn metric(run: &TestRun) -> Shared<dyn Metric> {
        let table =
            json!({ "type": "coco_ap", "dataset": "dataset.val", "iou_types": ["bbox", "segm"], "per_class": true });
        match run.try_build("metric.coco", table).unwrap() {
            Instance::Metric(metric) => metric,
            _ => panic!("no metric"),
        }
    }

    /// One image, seen by the model at half its size, with one detection.
    fn seen(id: i64, label: i64, corners: [f32; 4]) -> (Batch, ModelOutput) {
        let half = SIDE / 2;
        let mut batch = Batch::new(1);
        let image = Tensor::zeros([1, 3, half, half], (Kind::Uint8, Device::Cpu));
        batch.set(fields::IMAGE, BatchField::Stacked(image));
        batch.set(fields::IMAGE_ID, BatchField::Stacked(Tensor::from_slice(&[id])));
        batch.set(fields::ORIGINAL_SIZE, BatchField::Stacked(Tensor::from_slice2(&[[SIDE, SIDE]])));
        let masks = Tensor::zeros([1, 1, half, half], (Kind::Float, Device::Cpu));
        let [x1, y1, x2, y2] = corners.map(|v| v as i64);
        let _ = masks.narrow(2, y1, y2 - y1).narrow(3, x1, x2 - x1).fill_(1.0);
        let (boxes, labels) = (Tensor::from_slice(&corners).view([1, 4]), Tensor::from_slice(&[label]));
        let found = Detections::new(boxes, labels, Tensor::from_slice(&[0.9f32]));
        let found = Detections { masks: Some(masks), ..found };
        let mut outputs = Batch::new(1);
        outputs.set(fields::DETECTIONS, BatchField::Detections(vec![found]));
        (batch, ModelOutput { outputs, ..ModelOutput::default() })
    }

    fn value(values: &[(String, f64)], name: &str) -> f64 {
        values.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name} in {values:?}")).1
    }

    #[test]
    fn what_is_found_at_another_size_is_judged_on_disk() {
        let (run, _root) = run();
        let first = metric(&run);
        assert!(first.borrow_mut().compute().unwrap().values[0].1.is_nan());
        let (batch, output) = seen(10, 1, [2.0, 4.0, 12.0, 10.0]);
        first.borrow_mut().update(&batch, &output).unwrap();
        // Goes on in another metric, as after a resume, with a wrong class.
        let state = stored(&first.borrow().state().unwrap());
        let second = metric(&run);
        second.borrow_mut().load_state(&state).unwrap();
        let (batch, output) = seen(20, 1, [15.0, 15.0, 23.0, 27.0]);
        second.borrow_mut().update(&batch, &output).unwrap();
        let report = second.borrow_mut().compute().unwrap();
        // Or by two that saw an image each.
        let third = metric(&run);
        third.borrow_mut().update(&batch, &output).unwrap();
        first.borrow_mut().merge(&stored(&third.borrow().state().unwrap())).unwrap();
        let merged = first.borrow_mut().compute().unwrap();
        assert_eq!((&merged.values, &merged.text), (&report.values, &report.text));
        // The false one has the same score, but comes later.
        let names = ["bbox/AP/cat", "segm/AP/dog", "bbox/AP", "segm/AP50"];
        let values = names.map(|name| value(&report.values, name));
        assert_close("average precision", &values, &[1.0, 0.0, 0.5, 0.5], 1e-12);
        assert_eq!(value(&report.values, "bbox/APl"), -1.0);
        let text = report.text.unwrap();
        assert_eq!(text.lines().count(), 26, "{text}");
        assert!(text.contains("segm, 2 images\n Average Precision  (AP) @[ IoU=0.50:0.95"), "{text}");
    }

    #[test]
    fn pictures_of_another_set_and_missing_outputs_are_named() {
        let (run, _root) = run();
        let metric = metric(&run);
        let (batch, output) = seen(11, 1, [2.0, 4.0, 12.0, 10.0]);
        let error = format!("{:#}", metric.borrow_mut().update(&batch, &output).unwrap_err());
        assert!(error.contains("image 11 is not in the annotations"), "{error}");
        let error = metric.borrow_mut().update(&batch, &ModelOutput::default()).unwrap_err().to_string();
        assert!(error.contains("`detections`"), "{error}");
    }
}
