//! What the schedulers of a pipeline will do: its engines run, with their events, on batches of nothing.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use pipe_components::engine::evaluate::EvaluateConfig;
use pipe_components::engine::train::{TrainConfig, settings};
use pipe_components::optimizer::group::shown;
use pipe_core::{
    Config, Engine, EngineState, Instance, Kind, Limits, Loader, NodeId, Nodes, Optimizer, Process, RunContext,
    Setting, Settings, Shared, Stateful, Step, component::build::config_of,
};
use pipe_data::Batch;
use pipe_document::path_text;
use pipe_plan::Plan;
use pipe_plan::component::slot;
use pipe_run::build::join_nodes;
use pipe_vocab::Catalog;
use tch::Device;

use crate::partial::{Partial, port_of};

/// A setting over the run.
pub struct Series {
    /// `optimizer.sgd:lr`, or of one table `optimizer.sgd:groups[0].lr`.
    pub name: String,
    /// Its value in each row of the schedule; `None` where its optimizer makes no step.
    pub values: Vec<Option<f64>>,
}

/// What the settings of all optimizers will be, iteration by iteration.
pub struct Schedule {
    /// The run's step and epoch of each row.
    pub rows: Vec<(u64, u64)>,
    /// The settings.
    pub series: Vec<Series>,
    /// What is not in it.
    pub notes: Vec<String>,
}

/// Simulates the run of a plan. `epoch_length` stands for the data, which are then not opened.
///
/// # Errors
/// When a node that it takes cannot be built, or it is not known how long an engine runs.
pub fn simulate(plan: &mut Plan, catalog: Rc<Catalog>, epoch_length: Option<u64>) -> Result<Schedule> {
    if let Some(length) = epoch_length {
        set_lengths(plan, length)?;
    }
    let plan = &*plan;
    pipe_native::init()?;
    let partial = Partial::on(Device::Cpu, plan, catalog, Arc::default())?;
    let help = || match epoch_length {
        Some(_) => "what is scheduled cannot be built",
        None => "how long is an epoch? `--epoch-length N` says it where there are no data",
    };
    let mut notes = Vec::new();
    let (of_engines, others) = schedulers(plan, &mut notes);
    for scheduler in others {
        partial.build(plan, &scheduler).with_context(help)?;
    }
    let recorder = Rc::new(RefCell::new(Recorder::default()));
    for node in plan.nodes.values().filter(|node| node.id.kind == Kind::Engine) {
        let optimizer = match port_of(plan, &node.id, Kind::Optimizer) {
            Some(id) => match partial.build(plan, id).with_context(help)? {
                Instance::Optimizer(optimizer) => Some(recorder.borrow_mut().add(id, optimizer)),
                _ => bail!("{id} is not an optimizer"),
            },
            None => None,
        };
        let limits = limits(plan, &node.id)?;
        let length = match (plan.roots.contains(&node.id), epoch_length) {
            // Engines that events run count no steps of the run, so their length does not matter.
            (false, _) => 0,
            (true, Some(length)) if optimizer.is_some() => length,
            (true, Some(_)) => {
                notes.push(format!("{} runs by itself, and its data are not opened: its steps are left out", node.id));
                0
            }
            (true, None) => length(plan, &node.id, &partial).with_context(help)?,
        };
        for (property, value) in [("epoch_length", Some(length)), ("iterations", iterations(limits, length))] {
            let key = (node.id.clone(), property.to_owned());
            let value = value.filter(|value| *value > 0);
            partial.graph.offers.borrow_mut().extend(value.map(|value| (key, value.into())));
        }
        let loader: Shared<dyn Loader> = Rc::new(RefCell::new(Nothing { length, given: 0 }));
        let train = node.component.as_deref().and_then(config_of::<TrainConfig>);
        let process = Watch { recorder: recorder.clone(), optimizer, settings: train.map(settings) };
        let engine = Engine::new(node.id.clone(), limits, loader, Box::new(process));
        partial.graph.nodes.borrow_mut().insert(node.id.clone(), Instance::Engine(Rc::new(engine)));
    }
    for scheduler in of_engines {
        partial.build(plan, &scheduler).with_context(help)?;
    }
    recorder.borrow_mut().watch_numbers(&partial.graph.nodes.borrow());
    join_nodes(plan, &plan.event_edges, &partial.graph)?;
    partial.drive_roots()?;
    let recorder = recorder.take();
    Ok(Schedule { series: recorder.series(), rows: recorder.rows, notes })
}

/// Gives options that name the length of training its value, and those that name a property of a dataset their stand-in: how many
/// classes a model has changes no schedule.
fn set_lengths(plan: &mut Plan, length: u64) -> Result<()> {
    for edge in plan.property_edges.clone() {
        let refused = |problem| anyhow!("{}: {problem}", edge.to);
        if edge.from.kind != Kind::Engine {
            let mut stand_in = plan.nodes.get(&edge.to).map(|node| node.config.clone());
            let stand_in = stand_in.as_mut().and_then(|config| slot(config, &edge.option)).cloned();
            let stand_in =
                stand_in.with_context(|| format!("{} has no option `{}`", edge.to, path_text(&edge.option)))?;
            plan.set_option(&edge.to, &edge.option, stand_in).map_err(refused)?;
            continue;
        }
        let limits = limits(plan, &edge.from)?;
        let value =
            if edge.property == "epoch_length" { Some(epoch(limits, length)) } else { iterations(limits, length) };
        let value = value.with_context(|| format!("{} does not say how long it runs", edge.from))?;
        plan.set_option(&edge.to, &edge.option, value.into()).map_err(refused)?;
    }
    Ok(())
}

/// Iterations of an epoch, and of the whole run, over so many batches.
fn epoch(limits: Limits, length: u64) -> u64 {
    limits.epoch_length.map_or(length, |limit| limit.min(length))
}

fn iterations(limits: Limits, length: u64) -> Option<u64> {
    let epochs = limits.max_epochs.map(|epochs| epochs * epoch(limits, length));
    epochs.into_iter().chain(limits.max_iterations).min()
}

/// The schedulers that can be known in advance: those of numbers of engines, which stand-ins have, and the others.
fn schedulers(plan: &Plan, notes: &mut Vec<String>) -> (Vec<NodeId>, Vec<NodeId>) {
    let mut known = Vec::new();
    for node in plan.nodes.values().filter(|node| node.id.kind == Kind::Scheduler) {
        let options = node.descriptor.schema().get("properties").and_then(serde_json::Value::as_object);
        if options.is_some_and(|options| options.values().any(|option| option.get("x-metric").is_some())) {
            notes.push(format!("{} follows a measured value, which is not known in advance: it is left out", node.id));
        } else if steps(plan, &node.id, notes) {
            known.push(node.id.clone());
        }
    }
    known.into_iter().partition(|scheduler| port_of(plan, scheduler, Kind::Engine).is_some())
}

/// Whether events step a scheduler that can be known in advance; a note where not.
fn steps(plan: &Plan, scheduler: &NodeId, notes: &mut Vec<String>) -> bool {
    let edges = plan.event_edges.iter().filter(|edge| edge.targets.iter().any(|target| target.node == *scheduler));
    let unknown = edges.flat_map(|edge| &edge.events).find(|(node, event, _)| {
        let inner = node.kind == Kind::Engine && !plan.roots.contains(node);
        node.kind != Kind::Engine || inner && (event.starts_with("iteration") || event.starts_with("get_batch"))
    });
    if let Some((node, event, _)) = unknown {
        notes.push(format!("{scheduler} is stepped on {node}:{event}, which is not known in advance: it is left out"));
    }
    unknown.is_none()
}

fn limits(plan: &Plan, engine: &NodeId) -> Result<Limits> {
    let component = plan.nodes.get(engine).and_then(|node| node.component.as_deref());
    let component = component.with_context(|| format!("{engine} was not checked"))?;
    if let Some(train) = config_of::<TrainConfig>(component) {
        let (max_epochs, max_iterations) = (train.max_epochs, train.max_iterations);
        return Ok(Limits { max_epochs, max_iterations, epoch_length: train.epoch_length });
    }
    let evaluate = config_of::<EvaluateConfig>(component);
    let evaluate = evaluate.with_context(|| format!("{engine} is neither `train` nor `{}`", EvaluateConfig::TYPE))?;
    Ok(Limits { max_epochs: Some(1), max_iterations: evaluate.max_iterations, epoch_length: None })
}

/// Batches in an epoch of an engine's loader.
fn length(plan: &Plan, engine: &NodeId, partial: &Partial) -> Result<u64> {
    let loader = port_of(plan, engine, Kind::Loader).with_context(|| format!("{engine} has no loader"))?;
    let Instance::Loader(loader) = partial.build(plan, loader)? else { bail!("{loader} is not a loader") };
    let length = loader.borrow().epoch_length();
    length.map(|length| length as u64).with_context(|| format!("{engine} does not know how long its epochs are"))
}

/// So many batches of one sample that has no fields.
struct Nothing {
    length: u64,
    given: u64,
}

impl Stateful for Nothing {}

impl Loader for Nothing {
    fn epoch_length(&self) -> Option<usize> {
        Some(self.length as usize)
    }

    fn start_epoch(&mut self, _epoch: usize, first_batch: usize) -> Result<()> {
        self.given = first_batch as u64;
        Ok(())
    }

    fn last_batch(&mut self) -> Result<Batch> {
        Ok(Batch::new(1))
    }

    fn next_batch(&mut self) -> Result<Option<Batch>> {
        self.given += 1;
        Ok((self.given <= self.length).then(|| Batch::new(1)))
    }
}

/// The process of every engine: it looks at the settings where training would report them.
struct Watch {
    recorder: Rc<RefCell<Recorder>>,
    /// The engine's optimizer among the recorder's.
    optimizer: Option<usize>,
    settings: Option<Settings>,
}

impl Stateful for Watch {}

impl Process for Watch {
    fn settings(&self) -> Option<Settings> {
        self.settings.clone()
    }

    fn step(&mut self, batch: Batch, _state: &EngineState, run: &RunContext) -> Result<Step> {
        if let Some(optimizer) = self.optimizer {
            self.recorder.borrow_mut().record(optimizer, run);
        }
        Ok(Step { batch, ..Step::default() })
    }
}

/// The settings of the optimizers, row by row.
#[derive(Default)]
struct Recorder {
    optimizers: Vec<(NodeId, Shared<dyn Optimizer>)>,
    rows: Vec<(u64, u64)>,
    /// Of each row, the optimizer that makes the step and its settings.
    seen: Vec<(usize, Vec<(String, f64)>)>,
    /// Numbers of other nodes that are driven: the node's name, its numbers, the option.
    numbers: Vec<(String, Settings, String)>,
    /// Their values of each row.
    numbers_seen: Vec<Vec<Option<f64>>>,
}

impl Recorder {
    fn add(&mut self, id: &NodeId, optimizer: Shared<dyn Optimizer>) -> usize {
        self.optimizers.push((id.clone(), optimizer));
        self.optimizers.len() - 1
    }

    fn watch_numbers(&mut self, nodes: &Nodes) {
        for (id, settings) in nodes.iter().filter_map(|(id, node)| Some((id, node.settings()?))) {
            let driven = settings.borrow();
            let driven = driven.iter().filter(|(_, setting)| setting.is_driven()).map(|(option, _)| option.clone());
            self.numbers.extend(driven.map(|option| (id.to_string(), settings.clone(), option)));
        }
    }

    fn record(&mut self, optimizer: usize, run: &RunContext) {
        let clock = run.clock.get();
        self.rows.push((clock.step, clock.epoch));
        self.seen.push((optimizer, shown(self.optimizers[optimizer].1.borrow().groups())));
        let value =
            |(_, settings, option): &(String, Settings, String)| settings.borrow().get(option).map(Setting::value);
        self.numbers_seen.push(self.numbers.iter().map(value).collect());
    }

    fn series(&self) -> Vec<Series> {
        let of = |(at, (id, optimizer)): (usize, &(NodeId, Shared<dyn Optimizer>))| {
            let names = shown(optimizer.borrow().groups()).into_iter().map(|(name, _)| name);
            let series = names.map(|name| {
                let value = |(which, settings): &(usize, Vec<(String, f64)>)| {
                    let found = settings.iter().find(|(setting, _)| *setting == name && *which == at);
                    found.map(|(_, value)| *value)
                };
                Series { name: format!("{id}:{name}"), values: self.seen.iter().map(value).collect() }
            });
            series.collect::<Vec<_>>()
        };
        let number = |(at, (node, _, option)): (usize, &(String, Settings, String))| {
            let values = self.numbers_seen.iter().map(|row| row[at]).collect();
            Series { name: format!("{node}:{option}"), values }
        };
        let numbers = self.numbers.iter().enumerate().map(number);
        self.optimizers.iter().enumerate().flat_map(of).chain(numbers).collect()
    }
}
