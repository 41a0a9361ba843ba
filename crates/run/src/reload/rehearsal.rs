//! A dry run: built once, edited from save to save, reset to its initial state after each try.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tempfile::TempDir;

use super::{Inbox, Reloader, Report};
use crate::build::{build_extra, event_table};
use crate::events::{Target, TargetAction, Wire};
use crate::graph::Graph;
use crate::load::{Loaded, PipelineSource};
use crate::options::RunOptions;
use crate::running::Running;
use pipe_core::{
    Clock, EngineEvent, EventContext, Filter, Handler, Instance, Kind, Limits, NodeId, Progress, Record, RecordValue,
    Requests, Shared, Sink, State, Stateful, Subscription, event,
};
use pipe_data::fields;
use pipe_plan::Plan;
use pipe_vocab::Objects;

/// Images of a batch at most.
const PICTURES: usize = 16;

/// A run that is only tried. Its folder goes with it.
pub struct Rehearsal {
    running: Running,
    reloader: Reloader,
    /// Goes with the rehearsal.
    _folder: TempDir,
}

/// An image of a batch: RGB bytes row by row.
pub struct Picture {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// `height * width * 3` bytes.
    pub rgb: Vec<u8>,
    /// What is to be drawn on it.
    pub objects: Option<Box<Objects>>,
}

/// What came of a try.
#[derive(Default)]
pub struct Tried {
    /// The losses of each engine that has some, iteration by iteration.
    pub losses: Vec<(NodeId, Vec<f64>)>,
    /// The values of the metrics.
    pub values: Vec<(String, f64)>,
    /// The first batch, drawn.
    pub pictures: Vec<Picture>,
    /// Why there is no image.
    pub no_picture: Option<String>,
    /// Time spent in engines.
    pub at_work: Duration,
}

impl Rehearsal {
    /// Builds a pipeline that has a plan; the folder of `options` is not used.
    ///
    /// # Errors
    /// What cannot be built.
    pub fn start(
        mut loaded: Loaded,
        source: PipelineSource,
        options: RunOptions,
        requests: Requests,
    ) -> Result<Rehearsal> {
        let plan = loaded.plan.take().context("the pipeline has errors")?;
        let folder = tempfile::Builder::new()
            .prefix("pipe-dev-")
            .tempdir()
            .context("cannot create a temporary folder for the dry run")?;
        let options = RunOptions { folder: folder.path().to_owned(), captures: None, ..options };
        let running = Running::start(&plan, loaded.catalog.clone(), &options, requests)?;
        let reloader = Reloader::new(&running.graph, source, (plan, loaded.document), Arc::new(Inbox::default()), true);
        let reloader = reloader.of_files(&loaded.snapshot);
        Ok(Rehearsal { running, reloader, _folder: folder })
    }

    /// Takes an edited pipeline over. What did not change stays as it is built.
    ///
    /// # Errors
    /// When the random generators do not answer.
    pub fn apply(&self, edited: Loaded) -> Result<Report> {
        pipe_native::generator::seed_all(self.running.context().seed)?;
        Ok(self.reloader.apply(edited))
    }

    /// Runs some iterations of every top-level engine, and one of every engine that its events run; checkpoints are
    /// skipped. Then everything is reset, so the next try starts with the same weights and the same batches.
    ///
    /// # Errors
    /// What a run would fail on.
    pub fn run(&self, iterations: u64) -> Result<Tried> {
        let graph = &self.running.graph;
        let run = &graph.run;
        let plan = self.reloader.plan();
        pipe_native::generator::seed_all(run.seed)?;
        let before = remember(graph)?;
        let result = try_out(graph, &plan, iterations);
        for (id, instance, state) in &before {
            instance.load_state(state).with_context(|| format!("restoring {id}"))?;
        }
        run.clock.set(Clock::default());
        result
    }
}

/// The states of all nodes, nothing shared with them.
fn remember(graph: &Graph) -> Result<Vec<(NodeId, Instance, State)>> {
    let nodes = graph.nodes.borrow();
    let states = nodes.iter().map(|(id, instance)| {
        let State { values, tensors } = instance.state()?;
        let tensors = tensors.into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
        Ok((id.clone(), instance.clone(), State { values, tensors }))
    });
    states.collect()
}

fn try_out(graph: &Graph, plan: &Plan, iterations: u64) -> Result<Tried> {
    let observer = Rc::new(RefCell::new(Observer::default()));
    observe(graph, plan, &observer)?;
    for engine in graph.engines() {
        let count = if plan.roots.contains(&engine.id) { iterations } else { 1 };
        engine.set_limits(Limits { max_epochs: Some(1), max_iterations: Some(count), epoch_length: Some(count) });
    }
    let start = Instant::now();
    for root in &plan.roots {
        let Instance::Engine(engine) = graph.node(root)? else { continue };
        if graph.drive(&engine)?.is_break() {
            break;
        }
    }
    let at_work = start.elapsed();
    graph.run.flush()?;
    let seen = std::mem::take(&mut *observer.borrow_mut());
    Ok(Tried {
        losses: seen.losses.into_iter().collect(),
        values: seen.values,
        pictures: seen.pictures,
        no_picture: seen.no_picture,
        at_work,
    })
}

/// Listens to everything, and has the first batch of the first engine drawn.
fn observe(graph: &Graph, plan: &Plan, observer: &Shared<Observer>) -> Result<()> {
    let run = &graph.run;
    let node = NodeId::new(Kind::Sink, "dev");
    for former in run.unsubscribe_all() {
        if former.node != node || plan.nodes.contains_key(&node) {
            run.subscribe(former);
        }
    }
    run.subscribe(Subscription { node, inputs: Vec::new(), sink: observer.clone() });
    let mut events = event_table(&plan.event_edges, graph)?;
    let saves = |id: &NodeId| {
        let node = plan.nodes.get(id);
        node.is_some_and(|node| node.descriptor.events.iter().any(|event| event.name == event::SAVED_CHECKPOINT))
    };
    events.wires.iter_mut().for_each(|wire| wire.retain(|target| !saves(&target.node)));
    if let Some(root) = plan.roots.first() {
        let painter = Painter::new(graph, plan, root, observer.clone())?;
        let handler: Shared<dyn Handler> = Rc::new(RefCell::new(painter));
        let filter = Filter { once: vec![1], ..Filter::default() };
        let target = Target { node: picture_node(), action: TargetAction::Call(handler) };
        events.wires.push(Wire::new(
            vec![(root.clone(), EngineEvent::IterationCompleted.name().into())],
            filter,
            vec![target],
        ));
    }
    *graph.events.borrow_mut() = Rc::new(events);
    Ok(())
}

fn picture_node() -> NodeId {
    NodeId::new(Kind::Handler, "dev-picture")
}

/// Collects what a try shows.
#[derive(Default)]
struct Observer {
    losses: BTreeMap<NodeId, Vec<f64>>,
    values: Vec<(String, f64)>,
    pictures: Vec<Picture>,
    no_picture: Option<String>,
}

impl Stateful for Observer {}

impl Sink for Observer {
    fn write(&mut self, record: &Record) -> Result<()> {
        match &record.value {
            RecordValue::Image { height, width, rgb, objects } if record.node == picture_node() => {
                self.pictures.push(Picture {
                    height: *height,
                    width: *width,
                    rgb: rgb.clone(),
                    objects: objects.clone(),
                });
            }
            RecordValue::Scalar(value) if record.node.kind == Kind::Metric => {
                self.values.push((record.tag.clone(), *value));
            }
            _ => {}
        }
        Ok(())
    }

    fn progress(&mut self, progress: &Progress) {
        if let Some((_, loss)) = progress.values.iter().find(|(name, _)| name == "loss") {
            self.losses.entry(progress.engine.clone()).or_default().push(*loss);
        }
    }
}

/// Draws a batch with the handler that fits what is in it.
struct Painter {
    boxes: Shared<dyn Handler>,
    classes: Shared<dyn Handler>,
    observer: Shared<Observer>,
}

impl Painter {
    fn new(graph: &Graph, plan: &Plan, engine: &NodeId, observer: Shared<Observer>) -> Result<Painter> {
        let held = |node: &NodeId, kind: Kind| {
            plan.data_edges.iter().find(|edge| edge.to == *node && edge.from.kind == kind).map(|edge| edge.from.clone())
        };
        let dataset = held(engine, Kind::Loader).and_then(|loader| held(&loader, Kind::Dataset));
        let options = json!({ "dataset": dataset.map(|id| id.to_string()), "max_images": PICTURES });
        let build = |name: &str| match build_extra(graph, &picture_node(), name, options.clone())? {
            Instance::Handler(handler) => Ok(handler),
            _ => bail!("{name} is not a handler"),
        };
        Ok(Painter { boxes: build("debug_images")?, classes: build("sample_images")?, observer })
    }
}

impl Stateful for Painter {}

impl Handler for Painter {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let has = |field: &str| ctx.step.is_some_and(|step| step.batch.get(field).is_some());
        let has_places = has(fields::BOXES) || has(fields::SEGMENTATION);
        let painter = if has_places { &self.boxes } else { &self.classes };
        // A batch that cannot be drawn is not an error of the pipeline.
        let drawn = painter.borrow_mut().call(ctx);
        self.observer.borrow_mut().no_picture = drawn.err().map(|error| format!("{error:#}"));
        Ok(())
    }
}
