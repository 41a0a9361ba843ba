//! What is kept of a step that is made again.

use std::cell::RefCell;

use anyhow::Result;
use indexmap::IndexMap;
use pipe_core::{EngineEvent, EventContext, Instance, NodeId, Record, RecordValue, Setting};
use pipe_data::{BatchField, fields};
use pipe_run::Graph;
use pipe_run::state_at::Witness;
use pipe_vision::terms::{self, Terms};
use tch::{Device, Kind};

/// A step as it was seen.
#[derive(Default)]
pub(super) struct Seen(RefCell<Step>);

/// What there was to see.
#[derive(Default)]
pub(super) struct Step {
    pub engine: Option<NodeId>,
    /// The images' names.
    pub sources: Vec<String>,
    /// Classes of the objects of each image, or the image's own.
    pub labels: Vec<Vec<i64>>,
    /// The model's losses.
    pub losses: IndexMap<String, f64>,
    /// By what the engine weights them, where that is not 1.
    pub weights: IndexMap<String, f64>,
    /// What they are the sums of, where the model says so.
    pub terms: Vec<Terms>,
    /// Scalars that the engine recorded, by tag.
    pub recorded: Vec<(String, f64)>,
}

impl Seen {
    /// The engine whose step it was.
    pub(super) fn engine(&self) -> Option<NodeId> {
        self.0.borrow().engine.clone()
    }

    /// All that was seen.
    pub(super) fn take(&self) -> Step {
        self.0.take()
    }
}

/// By what an engine weights losses.
fn weights(graph: &Graph, engine: &NodeId) -> IndexMap<String, f64> {
    let Ok(Instance::Engine(engine)) = graph.node(engine) else { return IndexMap::new() };
    let settings = engine.settings().unwrap_or_default();
    let settings = settings.borrow();
    let of_losses =
        |(name, setting): (&String, &Setting)| Some((name.strip_prefix("loss_weights.")?.to_owned(), setting.value()));
    settings.iter().filter_map(of_losses).collect()
}

impl Witness for Seen {
    fn sees(&self, graph: &Graph, ctx: &EventContext<'_>) -> Result<()> {
        let mut seen = self.0.borrow_mut();
        if ctx.event.as_str() == EngineEvent::IterationStarted.name() {
            // Handlers may change them when it is completed.
            seen.weights = weights(graph, ctx.engine);
            terms::listen();
            return Ok(());
        }
        let terms = terms::heard();
        let step = ctx.step()?;
        seen.engine = Some(ctx.engine.clone());
        seen.terms = terms;
        seen.sources = step.batch.sources().to_vec();
        let integers = |values: &tch::Tensor| -> Result<Vec<i64>> {
            Ok(Vec::try_from(values.to_device(Device::Cpu).to_kind(Kind::Int64).flatten(0, -1))?)
        };
        seen.labels = match (step.batch.get(fields::LABELS), step.batch.get(fields::LABEL)) {
            (Some(_), _) => step.batch.list(fields::LABELS)?.iter().map(integers).collect::<Result<_>>()?,
            (None, Some(BatchField::Stacked(labels))) if !labels.is_floating_point() => {
                integers(labels)?.into_iter().map(|label| vec![label]).collect()
            }
            _ => Vec::new(),
        };
        let value = |loss: &tch::Tensor| loss.detach().to_kind(Kind::Double).double_value(&[]);
        seen.losses = step.output.losses.iter().map(|(name, loss)| (name.clone(), value(loss))).collect();
        Ok(())
    }

    fn hears(&self, record: &Record) {
        let mut seen = self.0.borrow_mut();
        if let (RecordValue::Scalar(value), None) = (&record.value, &seen.engine) {
            seen.recorded.push((record.tag.clone(), *value));
        }
    }
}
