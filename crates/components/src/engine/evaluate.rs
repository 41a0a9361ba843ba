//! `engine.evaluate`: evaluates a model on a loader.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::preflight::{ahead, timed};
use pipe_core::event::ENGINE_EVENTS;
use pipe_core::facts::{Facts, Role};
use pipe_core::{
    BuildContext, Component, Config, Engine, EngineState, Event, Instance, Kind, Limits, Loader, Metric, MetricReport,
    Model, NodeId, Process, Ref, RunContext, Shared, Stateful, Step, ValueRef, terminal,
};
use pipe_data::upload::to_device;
use pipe_data::{Batch, BatchField, fields};
use pipe_vision::terms::{self, Terms};
use tch::Tensor;

/// Evaluates a model on a loader: one pass without gradients, computing metrics.
///
/// The metrics are reset at the start, updated with every batch and computed before the `completed` event fires, so that
/// handlers of that event see their values. Usually run by an event of a training engine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateConfig {
    /// The model to evaluate.
    pub model: Ref<dyn Model>,
    /// The loader of the batches.
    pub loader: Ref<dyn Loader>,
    /// The metrics to compute.
    #[serde(default)]
    pub metrics: Vec<Ref<dyn Metric>>,
    /// Maximum number of iterations, if fewer than the loader has.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default)]
    pub max_iterations: Option<u64>,
    /// What the tags of the metrics begin with: `val/accuracy`, `val/coco/segm/AP`. TensorBoard shows `train/x` and `val/x` on one
    /// chart.
    #[serde(default = "val")]
    #[schemars(extend("x-reload" = "hot"), length(min = 1))]
    pub prefix: String,
    /// Further tags for single values.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub tags: Vec<Tag>,
}

fn val() -> String {
    "val".into()
}

/// A value and the tag it is recorded under.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// The value: `metric.NAME:VALUE`.
    pub value: ValueRef,
    /// The tag, grouped by `/`.
    #[schemars(length(min = 1))]
    pub tag: String,
}

impl Config for EvaluateConfig {
    const KIND: Kind = Kind::Engine;
    const TYPE: &'static str = "evaluate";
    const EXAMPLE: &'static str = r#"
[dataset.test]
type = "mnist"
root = "builtin:digits"
split = "test"

[loader.test]
type = "batch"
dataset = "dataset.test"
batch_size = 256

[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[metric.accuracy]
type = "accuracy"

[engine.evaluator]
type = "evaluate"
model = "model.net"
loader = "loader.test"
metrics = ["metric.accuracy"]

# Evaluate after each epoch of training.
[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.evaluator"]
"#;

    fn facts(&self) -> Facts {
        Facts { role: Some(Role::Evaluates), tags: vec![(self.prefix.clone(), "prefix")], ..Facts::default() }
    }

    fn events() -> &'static [Event] {
        ENGINE_EVENTS
    }
}

impl Component for EvaluateConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let limits = Limits { max_epochs: Some(1), max_iterations: self.max_iterations, epoch_length: None };
        let metrics =
            self.metrics.iter().map(|port| Ok((port.node.clone(), ctx.get(port)?))).collect::<Result<Vec<_>>>()?;
        let loader = ctx.get(&self.loader)?;
        let losses = metrics.iter().any(|(_, metric): &(NodeId, Shared<dyn Metric>)| metric.borrow().needs_losses());
        let by_image = losses && metrics.iter().any(|(_, metric)| metric.borrow().uses_image_losses());
        let process = Evaluate {
            id: ctx.node.clone(),
            model: ctx.get(&self.model)?,
            losses,
            by_image,
            shared: metrics.iter().all(|(_, metric)| metric.borrow().merges()),
            metrics,
            prefix: self.prefix,
            tags: self.tags,
        };
        Ok(Instance::Engine(std::rc::Rc::new(Engine::new(ctx.node.clone(), limits, loader, Box::new(process)))))
    }
}

pipe_core::register!(EvaluateConfig);

/// The running engine.
struct Evaluate {
    id: NodeId,
    model: Shared<dyn Model>,
    metrics: Vec<(NodeId, Shared<dyn Metric>)>,
    /// Whether one of them needs the model's losses.
    losses: bool,
    /// Whether one of them uses each image's own.
    by_image: bool,
    /// Whether ranks may each evaluate a part of the data.
    shared: bool,
    prefix: String,
    tags: Vec<Tag>,
}

impl Stateful for Evaluate {}

impl Evaluate {
    /// What a metric says, by the first of several ranks: what decisions hang on is the same on all.
    fn compute(&self, id: &NodeId, metric: &mut dyn Metric, run: &RunContext) -> Result<MetricReport> {
        if run.ranks.is_alone() {
            return metric.compute();
        }
        if self.shared {
            for part in run.ranks.gathered(&metric.state()?)? {
                metric.merge(&part)?;
            }
        }
        // As bits: JSON knows no NaN.
        let bits = |values: &[(String, f64)]| -> Vec<(String, u64)> {
            values.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect()
        };
        let mut own = None;
        let told = run.ranks.told(|| {
            let report = own.insert(metric.compute()?);
            // A metric with a tag of its own has set its value by itself.
            Ok(serde_json::to_vec(&[bits(&report.values), bits(&run.values_now(id))])?)
        })?;
        if let Some(own) = own {
            return Ok(own);
        }
        let [values, set]: [Vec<(String, u64)>; 2] = serde_json::from_slice(&told)?;
        set.iter().for_each(|(name, value)| run.set_value(id, name, f64::from_bits(*value)));
        let values = values.into_iter().map(|(name, value)| (name, f64::from_bits(value))).collect();
        Ok(MetricReport { values, ..MetricReport::default() })
    }

    /// The model at work here: what it gives it gives only here.
    fn with_model<T>(&self, work: impl FnOnce(&mut dyn Model) -> Result<T>) -> Result<T> {
        let mut model = self.model.borrow_mut();
        model.set_training(false);
        model.give_losses(self.losses);
        let done = work(&mut *model);
        model.give_losses(false);
        done
    }
}

/// What each image of a batch of `size` adds to the losses, as if all were like it: `[size]`.
fn image_losses(terms: &[Terms], size: usize) -> Tensor {
    let mut losses = vec![0.0; size];
    for part in terms.iter().flat_map(|terms| &terms.parts) {
        losses[part.place.image] += part.value * size as f64;
    }
    Tensor::from_slice(&losses)
}

impl Process for Evaluate {
    fn started(&mut self, run: &RunContext) -> Result<()> {
        if !run.ranks.is_alone() {
            // Each rank has running statistics of its own: as with torch's `DistributedDataParallel` those of the first count.
            let buffers: Vec<Tensor> = self.model.borrow().buffers().into_iter().map(|(_, buffer)| buffer).collect();
            run.ranks.copy_first(&buffers)?;
        }
        for (_, metric) in &self.metrics {
            metric.borrow_mut().reset();
        }
        Ok(())
    }

    fn step(&mut self, batch: Batch, _state: &EngineState, run: &RunContext) -> Result<Step> {
        let _no_gradients = tch::no_grad_guard();
        if batch.size == 0 {
            // Others have the whole of it.
            run.agree(&[])?;
            return Ok(Step { batch, ..Step::default() });
        }
        let (batch, output) = self.with_model(|model| {
            model.check(&batch)?;
            let batch = run.timings.measure(&self.id, "to device", || run.uploads.take(&batch, run.device))?;
            if self.by_image {
                terms::listen();
            }
            let output = run.timings.measure(&self.id, "forward", || run.autocast(|| model.forward(&batch)));
            run.uploads.begin_next(run.device);
            let terms = if self.by_image { terms::heard() } else { Vec::new() };
            let mut output = output??;
            if !terms.is_empty() {
                output.outputs.set(fields::IMAGE_LOSSES, BatchField::Stacked(image_losses(&terms, batch.size)));
            }
            Ok((batch, output))
        })?;
        for (id, metric) in &self.metrics {
            let updated = run.timings.measure(&self.id, "metrics", || metric.borrow_mut().update(&batch, &output));
            updated.with_context(|| format!("updating {id}"))?;
        }
        if !run.ranks.is_alone() {
            run.agree(&[])?;
        }
        Ok(Step { batch, output, ..Step::default() })
    }

    fn takes_part(&self) -> bool {
        self.shared
    }

    fn owned(&self) -> Vec<NodeId> {
        self.metrics.iter().map(|(id, _)| id.clone()).collect()
    }

    /// The metrics begin anew, so all batches must be seen again.
    fn resumes(&self) -> bool {
        false
    }

    fn padded(&self, images: &[[usize; 2]]) -> [usize; 2] {
        self.model.borrow().padded(images)
    }

    fn preflight(&mut self, batch: &Batch, run: &RunContext) -> Result<Duration> {
        let _no_gradients = tch::no_grad_guard();
        let whole = || {
            self.with_model(|model| {
                model.check(batch)?;
                let there = ahead(batch, run)?;
                run.autocast(|| model.forward(&there))??;
                Ok(())
            })
        };
        let spent = whole().and_then(|()| timed(run.device, whole));
        run.uploads.forget();
        spent
    }

    fn rehearse(&mut self, batch: Batch, run: &RunContext) -> Result<()> {
        self.with_model(|model| {
            model.check(&batch)?;
            let batch = to_device(&batch, run.device)?;
            let output = tch::no_grad(|| run.autocast(|| model.forward(&batch)))??;
            let missing = self.losses && output.losses.is_empty();
            ensure!(!missing, "a metric needs losses, but the model gives none in evaluation");
            Ok(())
        })
    }

    fn completed(&mut self, _state: &EngineState, run: &RunContext) -> Result<()> {
        let mut values = Vec::new();
        for (id, metric) in &self.metrics {
            let _takes_long = terminal::working(format!("computing {id}"));
            let report = self.compute(id, &mut *metric.borrow_mut(), run).with_context(|| format!("computing {id}"))?;
            values.extend(run.record_metric(id, Some(&self.prefix), &report)?);
        }
        run.evaluated(Some(&self.id), values);
        for Tag { value, tag } in &self.tags {
            if let Some(measured) = run.value(value) {
                run.scalar(&self.id, tag, measured)?;
            }
        }
        Ok(())
    }
}
