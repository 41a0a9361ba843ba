//! What `pipe eval` and `pipe predict` share: a part of a pipeline, built without a run of its own, and weights for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use pipe_components::engine::train::TrainConfig;
use pipe_components::model::weights::locate;
use pipe_core::{Clock, Config, Instance, Kind, NodeId, PathValue, RunContext, RunFolder, State};
use pipe_plan::{Plan, PlanNode};
use pipe_run::build::build_into;
use pipe_run::running::tell_device;
use pipe_run::{Graph, folders};
use pipe_vision::nn::StateDict;
use pipe_vision::weights::{self, Weights};
use pipe_vocab::Catalog;
use tch::Device;
use tempfile::TempDir;

use crate::source::{PipelineArgs, runs_folder};

/// Some of a pipeline's nodes. Their output goes into a temporary folder.
pub struct Partial {
    /// The nodes.
    pub graph: Rc<Graph>,
    _folder: TempDir,
}

impl Partial {
    /// Opens the requested device, otherwise the pipeline's.
    ///
    /// # Errors
    /// When the device is not available, or no temporary folder can be created.
    pub fn open(
        plan: &Plan,
        catalog: Rc<Catalog>,
        device: Option<&str>,
        interrupt: Arc<AtomicBool>,
    ) -> Result<Partial> {
        pipe_native::init()?;
        let wanted = device.unwrap_or(&plan.pipeline.device);
        let (device, why) = pipe_native::choose_device(wanted)?;
        tell_device(wanted, device, &why);
        Partial::on(device, plan, catalog, interrupt)
    }

    /// On a device that is at hand.
    ///
    /// # Errors
    /// When no temporary folder can be created.
    pub fn on(device: Device, plan: &Plan, catalog: Rc<Catalog>, interrupt: Arc<AtomicBool>) -> Result<Partial> {
        pipe_native::generator::seed_all(plan.pipeline.seed)?;
        // Also back: one process may run several pipelines.
        pipe_native::numeric::set_deterministic(plan.pipeline.deterministic, false)?;
        let folder = tempfile::Builder::new().prefix("pipe-").tempdir().context("cannot create a temporary folder")?;
        let run_folder = RunFolder::open(folder.path())?;
        let context = RunContext::new(device, plan.pipeline.precision, plan.pipeline.seed, run_folder, interrupt);
        Ok(Partial { graph: Graph::new(Rc::new(context), catalog), _folder: folder })
    }

    /// The context shared by the nodes.
    pub fn context(&self) -> &RunContext {
        &self.graph.run
    }

    /// Builds a node and everything it depends on. The weights files of the pipeline are not loaded and need not exist: the
    /// weights of the command line replace them.
    ///
    /// # Errors
    /// The first node that cannot be built: which, and why.
    pub fn build(&self, plan: &Plan, node: &NodeId) -> Result<Instance> {
        self.build_needed(plan, node, false)
    }

    /// As [`Partial::build`], models filled from the weights files of the pipeline.
    ///
    /// # Errors
    /// As [`Partial::build`].
    pub fn build_with_weights(&self, plan: &Plan, node: &NodeId) -> Result<Instance> {
        self.build_needed(plan, node, true)
    }

    fn build_needed(&self, plan: &Plan, node: &NodeId, initial_weights: bool) -> Result<Instance> {
        let needed = needed(plan, node, &|id| self.graph.node(id).is_ok());
        for id in plan.order.iter().filter(|id| needed.contains(id)) {
            if self.graph.node(id).is_ok() {
                continue;
            }
            let plan_node =
                plan.nodes.get(id).with_context(|| format!("{id} is in the plan's order, but not among its nodes"))?;
            build_into(plan, plan_node, &self.graph, initial_weights)?;
        }
        self.graph.node(node)
    }
}

impl Partial {
    /// Runs the engines that no event runs, one after another, their steps counted on.
    ///
    /// # Errors
    /// The first engine's error.
    pub fn drive_roots(&self) -> Result<()> {
        for root in self.graph.roots.borrow().clone() {
            let Instance::Engine(engine) = self.graph.node(&root)? else { continue };
            if self.graph.drive(&engine)?.is_break() {
                break;
            }
            let (base, ran) = (self.context().clock_base.get(), engine.current());
            self.context().clock_base.set(Clock { step: base.step + ran.iteration, epoch: base.epoch + ran.epoch });
        }
        Ok(())
    }
}

/// A node and every node that fills its ports or options, and theirs, but for those of what is there already.
fn needed<'p>(plan: &'p Plan, node: &'p NodeId, is_there: &dyn Fn(&NodeId) -> bool) -> BTreeSet<&'p NodeId> {
    let mut needed = BTreeSet::new();
    let mut open = vec![node];
    while let Some(id) = open.pop() {
        if needed.insert(id) && !is_there(id) {
            open.extend(plan.data_edges.iter().filter(|edge| edge.to == *id).map(|edge| &edge.from));
            open.extend(plan.property_edges.iter().filter(|edge| edge.to == *id).map(|edge| &edge.from));
        }
    }
    needed
}

/// The node that a command works on: the one named, otherwise the only matching one.
///
/// # Errors
/// When there is none, or several and none is named.
pub fn choose<'p>(
    plan: &'p Plan,
    kind: Kind,
    named: Option<&str>,
    fits: impl Fn(&PlanNode) -> bool,
    what: &str,
) -> Result<&'p NodeId> {
    let fitting: Vec<&NodeId> =
        plan.nodes.values().filter(|node| node.id.kind == kind && fits(node)).map(|node| &node.id).collect();
    let names = || fitting.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(", ");
    match (named, fitting.as_slice()) {
        (_, []) => bail!("the pipeline has no {what}"),
        (None, [only]) => Ok(only),
        (None, _) => bail!("the pipeline has more than one {what}: {}; choose one with --{kind}", names()),
        (Some(name), all) => {
            let same = |id: &&&NodeId| *id.name == *name || id.to_string() == name;
            all.iter()
                .find(same)
                .copied()
                .with_context(|| format!("`{name}` is not a {what} of the pipeline; available: {}", names()))
        }
    }
}

/// The training engine that a command works on, as [`choose`] does.
///
/// # Errors
/// As [`choose`].
pub fn training_engine<'p>(plan: &'p Plan, named: Option<&str>) -> Result<&'p NodeId> {
    let is_training = |node: &PlanNode| node.descriptor.name == TrainConfig::TYPE;
    choose(plan, Kind::Engine, named, is_training, "engine of type `train`")
}

/// The model that an engine runs, or the loader that it reads: what fills its port of that kind.
pub fn port_of<'p>(plan: &'p Plan, node: &NodeId, kind: Kind) -> Option<&'p NodeId> {
    plan.data_edges.iter().find(|edge| edge.to == *node && edge.from.kind == kind).map(|edge| &edge.from)
}

/// Reads weights for a model: those that are given (`--weights`); else, where the pipeline is a run's, of its best checkpoint; else
/// those that the model's own options name. `best` and `latest` mean the newest run of the pipeline.
///
/// # Errors
/// When there are none for this model, or they cannot be read.
pub fn weights_for(pipeline: &PipelineArgs, given: Option<&str>, plan: &Plan, model: &NodeId) -> Result<Weights> {
    let own = || plan.nodes.get(model)?.config.get("weights")?.as_str().map(PathValue::new);
    let value = match given {
        Some(name @ ("best" | "latest")) if !Path::new(name).exists() => {
            PathValue::new(newest_run(pipeline, plan)?.join(name).display().to_string())
        }
        Some(path) => PathValue::new(path),
        None if pipeline.file.join("checkpoints").is_dir() => PathValue::new(pipeline.file.display().to_string()),
        None => own().with_context(|| {
            format!(
                "which weights? `--weights` names a file, a run or `torchvision:NAME`, or give a run in place of {}",
                pipeline.file.display()
            )
        })?,
    };
    let file = locate(&value, model)?;
    tracing::info!("{model}: loading weights from {}", file.display());
    weights::read(&file)
}

/// The folder of the run that the pipeline is of, or of the newest run of that pipeline.
fn newest_run(pipeline: &PipelineArgs, plan: &Plan) -> Result<PathBuf> {
    if pipeline.file.is_dir() {
        return Ok(pipeline.file.clone());
    }
    let root = runs_folder();
    let name = plan.pipeline.name.clone().unwrap_or_else(|| pipeline.stem());
    let runs = folders::runs(&root, &name)?;
    let newest =
        runs.into_iter().next().with_context(|| format!("there is no run of `{name}` under {}", root.display()))?;
    Ok(newest.folder)
}

/// Loads weights into a model; all must match.
///
/// # Errors
/// What does not match.
pub fn load_weights(graph: &Graph, model: &NodeId, tensors: StateDict) -> Result<()> {
    let Instance::Model(built) = graph.node(model)? else { bail!("{model} is not a model") };
    let state = State { tensors, ..State::default() };
    built.borrow_mut().load_state(&state).with_context(|| format!("the weights do not match {model}"))
}
