//! What the unit tests of components share: a run in a temporary folder, and nodes built as a pipeline would build them.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use pipe_core::{
    BuildContext, EngineState, EventContext, Handler, Instance, Model, ModelOutput, NodeId, Optimizer, Precision,
    Problems, RunContext, RunFolder, Scheduler, Shared, State, Stateful, Step,
};
use pipe_data::Batch;
use serde_json::Value;
use tch::{Device, Tensor};

use crate::graph::Graph;

/// A run on the CPU whose folder goes when it is dropped.
pub struct TestRun {
    /// What everything running shares.
    pub run: Rc<RunContext>,
    /// The nodes.
    pub graph: Rc<Graph>,
    _folder: tempfile::TempDir,
}

impl Default for TestRun {
    fn default() -> Self {
        Self::new()
    }
}

impl TestRun {
    /// A run without nodes.
    pub fn new() -> TestRun {
        let folder = tempfile::tempdir().unwrap();
        let run_folder = RunFolder::open(&folder.path().join("run")).unwrap();
        let run = Rc::new(RunContext::new(Device::Cpu, Precision::Fp32, 0, run_folder, Arc::default()));
        let graph = Graph::new(run.clone(), Rc::new(pipe_core::builtin().clone()));
        TestRun { run, graph, _folder: folder }
    }

    /// A run with a model `model.net` of these parameters.
    pub fn with_parameters(parameters: &[(&str, &Tensor)]) -> TestRun {
        let test = TestRun::new();
        let parameters = parameters.iter().map(|(name, t)| ((*name).to_owned(), t.shallow_clone())).collect();
        test.add("model.net", Instance::model(FakeModel { parameters }));
        test
    }

    /// Adds a built node.
    pub fn add(&self, node: &str, instance: Instance) {
        self.graph.nodes.borrow_mut().insert(node.parse().unwrap(), instance);
    }

    /// Builds a node from its table (`type` included) through the catalog, and adds it.
    pub fn try_build(&self, node: &str, table: Value) -> Result<Instance> {
        self.try_build_with(node, table, true)
    }

    /// Builds a node likewise, its model filled from the files that its options name or not.
    pub fn try_build_with(&self, node: &str, table: Value, initial_weights: bool) -> Result<Instance> {
        let node: NodeId = node.parse().unwrap();
        let Value::Object(mut table) = table else { panic!("a node is a table") };
        let name = table.shift_remove("type").unwrap();
        let catalog = self.graph.catalog.borrow().clone();
        let descriptor = catalog.get(node.kind, name.as_str().unwrap()).expect("a registered component");
        let checked = descriptor.parse(table.into());
        let checked = checked.map_err(|error| anyhow!("{}: {}", error.path.join("."), error.message))?;
        let mut problems = Problems::default();
        checked.check(&mut problems);
        if let Some(problem) = problems.found.first() {
            bail!("{}: {}", problem.path.join("."), problem.message);
        }
        let built = {
            let nodes = self.graph.nodes.borrow();
            let mut ctx = BuildContext::new(&node, &self.run, &nodes, &catalog);
            ctx.initial_weights = initial_weights;
            pipe_core::build(&*checked, ctx)?
        };
        self.graph.nodes.borrow_mut().insert(node, built.instance.clone());
        built.on_commit.into_iter().for_each(|action| action(&self.run));
        Ok(built.instance)
    }

    /// A built optimizer.
    pub fn optimizer(&self, node: &str, table: Value) -> Shared<dyn Optimizer> {
        match self.try_build(node, table).unwrap() {
            Instance::Optimizer(optimizer) => optimizer,
            _ => panic!("{node} is no optimizer"),
        }
    }

    /// A built scheduler.
    pub fn scheduler(&self, node: &str, table: Value) -> Shared<dyn Scheduler> {
        match self.try_build(node, table).unwrap() {
            Instance::Scheduler(scheduler) => scheduler,
            _ => panic!("{node} is no scheduler"),
        }
    }

    /// A built handler.
    pub fn handler(&self, node: &str, table: Value) -> Shared<dyn Handler> {
        match self.try_build(node, table).unwrap() {
            Instance::Handler(handler) => handler,
            _ => panic!("{node} is no handler"),
        }
    }

    /// Calls a handler as on an event of `engine.trainer`.
    pub fn call(&self, handler: &Shared<dyn Handler>, event: &str, step: Option<&Step>) -> Result<()> {
        let state = EngineState { iteration: 7, epoch: 1, ..EngineState::default() };
        self.call_at(handler, event, &state, 7, step)
    }

    /// Calls a handler as on an event of `engine.trainer`, which stands there.
    pub fn call_at(
        &self,
        handler: &Shared<dyn Handler>,
        event: &str,
        state: &EngineState,
        count: u64,
        step: Option<&Step>,
    ) -> Result<()> {
        let (run, dispatch, engine) = (&*self.run, &*self.graph, "engine.trainer".parse().unwrap());
        let (own, event) = (Default::default(), event.into());
        let (engine, node) = (&engine, &engine);
        let resumed = None;
        let ctx = EventContext { run, dispatch, engine, node, event, count, state, step, resumed, own: &own };
        handler.borrow_mut().call(&ctx)
    }
}

/// A model of nothing but parameters.
pub struct FakeModel {
    /// Their names and values.
    pub parameters: Vec<(String, Tensor)>,
}

impl Stateful for FakeModel {}

impl Model for FakeModel {
    fn set_training(&mut self, _training: bool) {}

    fn forward(&mut self, _batch: &Batch) -> anyhow::Result<ModelOutput> {
        Ok(ModelOutput::default())
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.parameters.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect()
    }
}

/// A state as a checkpoint would give it back: nothing shared with the original.
pub fn stored(state: &State) -> State {
    let values = serde_json::from_str(&serde_json::to_string(&state.values).unwrap()).unwrap();
    State { values, tensors: state.tensors.iter().map(|(name, t)| (name.clone(), t.copy())).collect() }
}

/// A file of numbers under `tests/parity`.
pub fn parity(file: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// A list of numbers, flattened.
pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Null => vec![f64::NAN],
        other => vec![other.as_f64().unwrap()],
    }
}

/// A list of integers of any nesting as an i64 tensor of that shape.
pub fn tensor(value: &Value) -> Tensor {
    let mut shape = Vec::new();
    let mut inner = value;
    while let Value::Array(items) = inner {
        shape.push(items.len() as i64);
        inner = items.first().unwrap_or(&Value::Null);
    }
    let kind = if inner.is_f64() { tch::Kind::Float } else { tch::Kind::Int64 };
    Tensor::from_slice(&numbers(value)).view(shape.as_slice()).to_kind(kind)
}

/// Fails unless both are equal within `tolerance`, relative to the larger of 1 and the expected value.
pub fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let same = (g.is_nan() && e.is_nan()) || (g - e).abs() <= tolerance * e.abs().max(1.0);
        assert!(same, "{what}[{i}]: got {g}, expected {e}");
    }
}
