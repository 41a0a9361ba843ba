//! The built nodes of a run, joined: who runs on which event, who listens to whose records.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::{Rc, Weak};

use anyhow::{Context, Result, anyhow};
use pipe_core::{Boundary, Dispatch, Engine, EventContext, Instance, Interrupted, NodeId, Nodes, RunContext};
use pipe_vocab::Catalog;
use serde_json::Value;

use crate::behind::Behind;
use crate::events::EventTable;

/// Acts between the iterations and epochs of engines: the one place where pieces of a run are exchanged. It cannot fail:
/// what it cannot do it leaves as it was, and says so.
pub trait Between {
    /// Called by `engine`, which holds nothing borrowed meanwhile.
    fn between(&self, graph: &Graph, engine: &NodeId, boundary: Boundary);
}

/// The built nodes of a run, joined.
pub struct Graph {
    /// What they share.
    pub run: Rc<RunContext>,
    /// The components that there are.
    pub catalog: RefCell<Rc<Catalog>>,
    /// Every built node, in topological order.
    pub nodes: RefCell<Nodes>,
    /// Which targets run on which event.
    pub events: RefCell<Rc<EventTable>>,
    /// The engines that run by themselves, in the order in which they are to run.
    pub roots: RefCell<Vec<NodeId>>,
    /// Properties that nodes offer to others, by node and name.
    pub offers: RefCell<Offers>,
    /// Which classes the labels of each model are: names by label, as its weights keep them.
    pub classes: RefCell<BTreeMap<NodeId, BTreeMap<i64, String>>>,
    /// Which classes the files of weights that filled each model are of, when it was built.
    pub trained_on: RefCell<BTreeMap<NodeId, BTreeMap<i64, String>>>,
    /// What writes checkpoints.
    pub behind: Behind,
    between: RefCell<Option<Rc<dyn Between>>>,
}

/// Properties that nodes offer to others, by node and name.
pub type Offers = BTreeMap<(NodeId, String), Value>;

impl Graph {
    /// A graph without nodes as yet, which saves the checkpoints of `run`.
    pub fn new(run: Rc<RunContext>, catalog: Rc<Catalog>) -> Rc<Graph> {
        let graph = Rc::new(Graph {
            run,
            catalog: RefCell::new(catalog),
            nodes: RefCell::default(),
            events: RefCell::default(),
            roots: RefCell::default(),
            offers: RefCell::default(),
            classes: RefCell::default(),
            trained_on: RefCell::default(),
            behind: Behind::default(),
            between: RefCell::default(),
        });
        let weak: Weak<Graph> = Rc::downgrade(&graph);
        graph.run.set_checkpoints(weak);
        graph
    }

    /// A built node.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn node(&self, id: &NodeId) -> Result<Instance> {
        self.nodes.borrow().get(id).cloned().ok_or_else(|| anyhow!("there is no node {id} in this run"))
    }

    /// Every engine.
    pub fn engines(&self) -> Vec<Rc<Engine>> {
        let nodes = self.nodes.borrow();
        let engines = nodes.values().filter_map(|instance| match instance {
            Instance::Engine(engine) => Some(engine.clone()),
            _ => None,
        });
        engines.collect()
    }

    /// Runs an engine of this graph.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn drive(&self, engine: &Engine) -> Result<ControlFlow<Interrupted>> {
        engine.run(&self.run, self)
    }

    /// Lets `between` act between iterations from now on.
    pub fn set_between(&self, between: Rc<dyn Between>) {
        *self.between.borrow_mut() = Some(between);
    }

    /// What each dataset has to say, once, by node.
    pub fn dataset_reports(&self) -> Vec<(NodeId, String)> {
        let nodes = self.nodes.borrow();
        let datasets = nodes.iter().filter_map(|(id, instance)| match instance {
            Instance::Dataset(dataset) => Some((id.clone(), dataset.report()?)),
            _ => None,
        });
        datasets.collect()
    }

    /// Gives all ranks the weights of the first, wherever theirs came from.
    ///
    /// # Errors
    /// When a rank is gone, or has other models.
    pub fn alike(&self) -> Result<()> {
        if self.run.ranks.is_alone() {
            return Ok(());
        }
        for instance in self.nodes.borrow().values() {
            if let Instance::Model(model) = instance {
                let model = model.borrow();
                let all = model.parameters().into_iter().chain(model.buffers()).map(|(_, tensor)| tensor);
                self.run.ranks.copy_first(&all.collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    /// Tells every handler of the run that it has ended.
    ///
    /// # Errors
    /// The first handler's error, after all were told.
    pub fn finish_handlers(&self) -> Result<()> {
        let mut first = None;
        for (id, instance) in self.nodes.borrow().iter() {
            if let Instance::Handler(handler) = instance {
                let told = handler.borrow_mut().finish(&self.run).with_context(|| format!("finishing {id}"));
                first = first.or(told.err());
            }
        }
        first.map_or(Ok(()), Err)
    }
}

impl Dispatch for Graph {
    fn fire(&self, ctx: &EventContext<'_>) -> Result<ControlFlow<Interrupted>> {
        let table = self.events.borrow().clone();
        table.fire(ctx)
    }

    fn listens(&self, node: &NodeId, event: &str) -> bool {
        let events = self.events.borrow();
        events.wires.iter().any(|wire| wire.events.iter().any(|(of, name)| of == node && name == event))
    }

    fn begin(&self, engine: &NodeId) {
        self.events.borrow().begin(engine);
    }

    fn pause(&self, engine: &NodeId, boundary: Boundary) {
        let between = self.between.borrow().clone();
        if let Some(between) = between {
            between.between(self, engine, boundary);
        }
    }
}
