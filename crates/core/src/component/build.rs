//! The [`Component`] trait: what a component may use while it is built, what comes of it, and how its checked configuration
//! carries the way to build it.
//!
//! Building does not touch the current run: a node that is built aside for an edit that is then refused leaves no trace. So a
//! component gets values and built nodes; what it wants of the run itself it leaves in the [`Built`].

use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::{Rc, Weak};

use anyhow::{Context, Result, anyhow};
use pipe_plugin::Ref;
use pipe_vocab::{Catalog, Checked, Config, Contract, Facts, Kind, NodeId, Precision, Problems};
use serde_json::{Map, Value};
use tch::Device;

use super::instance::{Instance, Nodes};
use super::port::{Nested, NestedKind, PortKind};
use crate::clock::Clock;
use crate::context::RunContext;
use crate::frozen::Frozen;

/// A component of the program: what is built of a [`Config`].
pub trait Component: Config {
    /// Makes the component. May open files and devices.
    ///
    /// # Errors
    /// What is wrong with the outside world, named for people.
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance>;
}

/// Something to do once a built node has its place in the run.
pub type OnCommit = Box<dyn FnOnce(&RunContext)>;

/// A built node, and what else came of building it.
pub struct Built {
    /// The node.
    pub instance: Instance,
    /// The values of declared properties that only the built node knows.
    pub offers: Vec<(String, Value)>,
    /// The classes that the weights which fill the node were trained on, whole, as its files say: names by label.
    pub trained_on: Option<BTreeMap<i64, String>>,
    /// What to do once the node has its place in the run.
    pub on_commit: Vec<OnCommit>,
}

/// What a component may use while it is built.
pub struct BuildContext<'a> {
    /// The node's own name.
    pub node: &'a NodeId,
    /// The device of models and batches.
    pub device: Device,
    /// The type in which models compute.
    pub precision: Precision,
    /// The seed of everything.
    pub seed: u64,
    /// Whether models fill themselves from the files that their options name; not where other weights follow at once.
    pub initial_weights: bool,
    run: &'a Rc<RunContext>,
    nodes: &'a Nodes,
    catalog: &'a Catalog,
    offers: Vec<(String, Value)>,
    trained_on: Option<BTreeMap<i64, String>>,
    on_commit: Vec<OnCommit>,
}

impl<'a> BuildContext<'a> {
    /// For the node `node` of a run in which `nodes` are built already.
    pub fn new(node: &'a NodeId, run: &'a Rc<RunContext>, nodes: &'a Nodes, catalog: &'a Catalog) -> BuildContext<'a> {
        BuildContext {
            node,
            device: run.device,
            precision: run.precision,
            seed: run.seed,
            initial_weights: true,
            run,
            nodes,
            catalog,
            offers: Vec::new(),
            trained_on: None,
            on_commit: Vec::new(),
        }
    }

    /// The node that fills a port.
    ///
    /// # Errors
    /// When it has not been built: a fault of the plan's order.
    pub fn get<T: PortKind + ?Sized>(&self, port: &Ref<T>) -> Result<T::Shared> {
        T::from_instance(self.instance(&port.node)?)
            .ok_or_else(|| anyhow!("{} is not {}", port.node, T::KIND.with_article()))
    }

    /// A node that is built already.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn instance(&self, node: &NodeId) -> Result<&'a Instance> {
        self.nodes.get(node).with_context(|| format!("there is no node {node} in this run"))
    }

    /// Builds a component written in place.
    ///
    /// # Errors
    /// When there is no such component, its options do not fit, or it cannot be built.
    pub fn nested<K: NestedKind>(&mut self, nested: &Nested<K>) -> Result<Instance> {
        let (descriptor, options) = split_nested(self.catalog, K::KIND, nested.table.clone())?;
        let checked = descriptor
            .parse(options)
            .map_err(|error| anyhow!("{}: {}: {}", descriptor.full_name(), error.path.join("."), error.message))?;
        build_checked(&*checked, self)
    }

    /// What holds parameters still in this run.
    pub fn frozen(&self) -> Rc<Frozen> {
        self.run.frozen.clone()
    }

    /// Gives the value of a declared property, which other nodes may name.
    pub fn offer(&mut self, property: &str, value: impl Into<Value>) {
        self.offers.push((property.to_owned(), value.into()));
    }

    /// Says which classes the weights that fill all of this model were trained on.
    pub fn trained_on(&mut self, classes: BTreeMap<i64, String>) {
        self.trained_on = Some(classes);
    }

    /// Has something done to the run once the node has its place in it; not if it never gets one.
    pub fn on_commit(&mut self, action: impl FnOnce(&RunContext) + 'static) {
        self.on_commit.push(Box::new(action));
    }

    /// The folder in which a component may keep files of this run.
    pub fn folder(&self) -> &Path {
        self.run.folder.path()
    }

    /// Whether a path lies in the run's folder, so that no other run writes there.
    pub fn is_own(&self, path: &Path) -> bool {
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        whole(path).starts_with(whole(self.folder()))
    }

    /// Whether the run has not made a step: what is in its folder is of a life that left nothing to go on from, unless it is
    /// resumed.
    pub fn begins(&self) -> bool {
        self.run.clock.get() == Clock::default()
    }

    /// Whether the console speaks JSON.
    pub fn json_log(&self) -> bool {
        self.run.json_log.get()
    }

    /// The run, for the time after the node is built.
    pub fn run(&self) -> Weak<RunContext> {
        Rc::downgrade(self.run)
    }

    /// What came of building.
    pub fn finish(self, instance: Instance) -> Built {
        Built { instance, offers: self.offers, trained_on: self.trained_on, on_commit: self.on_commit }
    }
}

/// The component that a table in place names, and its options without `type`.
///
/// # Errors
/// When there is no such component.
pub fn split_nested(
    catalog: &Catalog,
    kind: Kind,
    mut table: Map<String, Value>,
) -> Result<(&'static pipe_vocab::Descriptor, Value)> {
    let name = table.shift_remove("type");
    let name = name.as_ref().and_then(Value::as_str).with_context(|| format!("a {kind} in place needs a `type`"))?;
    let descriptor = catalog.get(kind, name).with_context(|| format!("there is no {kind} of type `{name}`"))?;
    Ok((descriptor, table.into()))
}

/// A component's configuration, its type forgotten.
pub trait Buildable {
    /// See [`Config::contract`].
    fn contract(&self) -> Contract;
    /// See [`Config::values`].
    fn values(&self) -> Vec<String>;
    /// See [`Config::facts`].
    fn facts(&self) -> Facts;
    /// See [`Config::check`].
    fn check(&self, problems: &mut Problems);
    /// The configuration with defaults filled in.
    fn to_json(&self) -> Value;
    /// See [`Component::build`].
    ///
    /// # Errors
    /// Those of the component.
    fn build(&self, ctx: &mut BuildContext<'_>) -> Result<Instance>;
    /// The configuration struct, for those who know its type.
    fn as_any(&self) -> &dyn Any;
}

impl<C: Component> Buildable for C {
    fn contract(&self) -> Contract {
        Config::contract(self)
    }

    fn values(&self) -> Vec<String> {
        Config::values(self)
    }

    fn facts(&self) -> Facts {
        Config::facts(self)
    }

    fn check(&self, problems: &mut Problems) {
        Config::check(self, problems);
    }

    fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    fn build(&self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Component::build(self.clone(), ctx)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What plans hold: knows nothing of building, but carries what can be built.
struct Carried(Box<dyn Buildable>);

impl Checked for Carried {
    fn contract(&self) -> Contract {
        self.0.contract()
    }

    fn values(&self) -> Vec<String> {
        self.0.values()
    }

    fn facts(&self) -> Facts {
        self.0.facts()
    }

    fn check(&self, problems: &mut Problems) {
        self.0.check(problems);
    }

    fn to_json(&self) -> Value {
        self.0.to_json()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What can be built, as what plans hold.
pub fn checked(buildable: Box<dyn Buildable>) -> Box<dyn Checked> {
    Box::new(Carried(buildable))
}

/// The configuration struct of a checked component, for those who know its type.
pub fn config_of<C: Config>(checked: &dyn Checked) -> Option<&C> {
    checked.as_any().downcast_ref::<Carried>()?.0.as_any().downcast_ref()
}

/// Builds a checked component with a context that others have given.
///
/// # Errors
/// Those of the component.
fn build_checked(checked: &dyn Checked, ctx: &mut BuildContext<'_>) -> Result<Instance> {
    let carried = checked.as_any().downcast_ref::<Carried>().context("the configuration belongs to another program")?;
    carried.0.build(ctx)
}

/// Builds a checked component.
///
/// # Errors
/// Those of the component.
pub fn build(checked: &dyn Checked, mut ctx: BuildContext<'_>) -> Result<Built> {
    let instance = build_checked(checked, &mut ctx)?;
    Ok(ctx.finish(instance))
}
