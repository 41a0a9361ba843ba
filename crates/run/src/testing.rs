//! What unit tests of components share: a run in a temporary folder, and nodes built as a pipeline would build them.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use tch::{Device, Tensor};

use crate::{
    BuildContext, EngineState, EventContext, Handler, Instance, Model, ModelOutput, NodeId, Optimizer, Precision,
    Problems, Registry, RunContext, RunFolder, Scheduler, Shared, State, Stateful, Step,
};
use pipe_data::Batch;

/// A run on the CPU whose folder goes when it is dropped.
pub(crate) struct TestRun {
    pub run: Rc<RunContext>,
    _folder: tempfile::TempDir,
}

impl TestRun {
    pub fn new() -> TestRun {
        let folder = tempfile::tempdir().unwrap();
        let run_folder = RunFolder::open(&folder.path().join("run")).unwrap();
        let run = RunContext::new(Device::Cpu, Precision::Fp32, 0, run_folder, Arc::default());
        TestRun { run: Rc::new(run), _folder: folder }
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
        self.run.nodes.borrow_mut().insert(node.parse().unwrap(), instance);
    }

    /// Builds a node from its table (`type` included) through the registry, and adds it.
    pub fn try_build(&self, node: &str, table: Value) -> anyhow::Result<Instance> {
        let node: NodeId = node.parse().unwrap();
        let Value::Object(mut table) = table else { panic!("a node is a table") };
        let name = table.shift_remove("type").unwrap();
        let descriptor = Registry::global().get(node.kind, name.as_str().unwrap()).expect("a registered component");
        let component = descriptor.parse(table.into()).map_err(|e| anyhow::anyhow!("{:?}: {}", e.path, e.message))?;
        let mut problems = Problems::default();
        component.check(&mut problems);
        if let Some(problem) = problems.found.first() {
            anyhow::bail!("{}: {}", problem.path.join("."), problem.message);
        }
        let instance = component.build(&mut BuildContext { run: &self.run, node: &node })?;
        self.run.nodes.borrow_mut().insert(node, instance.clone());
        Ok(instance)
    }

    pub fn optimizer(&self, node: &str, table: Value) -> Shared<dyn Optimizer> {
        match self.try_build(node, table).unwrap() {
            Instance::Optimizer(optimizer) => optimizer,
            _ => panic!("{node} is no optimizer"),
        }
    }

    pub fn scheduler(&self, node: &str, table: Value) -> Shared<dyn Scheduler> {
        match self.try_build(node, table).unwrap() {
            Instance::Scheduler(scheduler) => scheduler,
            _ => panic!("{node} is no scheduler"),
        }
    }

    pub fn handler(&self, node: &str, table: Value) -> Shared<dyn Handler> {
        match self.try_build(node, table).unwrap() {
            Instance::Handler(handler) => handler,
            _ => panic!("{node} is no handler"),
        }
    }

    /// Calls a handler as on an event of `engine.trainer`.
    pub fn call(&self, handler: &Shared<dyn Handler>, event: &str, step: Option<&Step>) -> anyhow::Result<()> {
        let engine = "engine.trainer".parse().unwrap();
        let state = EngineState { iteration: 7, epoch: 1, ..EngineState::default() };
        let ctx = EventContext { run: &self.run, engine: &engine, node: &engine, event, count: 7, state: &state, step };
        handler.borrow_mut().call(&ctx)
    }
}

/// A model of nothing but parameters.
pub(crate) struct FakeModel {
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
pub(crate) fn stored(state: &State) -> State {
    let values = serde_json::from_str(&serde_json::to_string(&state.values).unwrap()).unwrap();
    State { values, tensors: state.tensors.iter().map(|(name, t)| (name.clone(), t.copy())).collect() }
}

/// A file of numbers under `tests/parity`.
pub(crate) fn parity(file: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// A list of numbers, flattened.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Null => vec![f64::NAN],
        other => vec![other.as_f64().unwrap()],
    }
}

/// A list of whole numbers of any nesting as an i64 tensor of that shape.
pub(crate) fn tensor(value: &Value) -> Tensor {
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
pub(crate) fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let same = (g.is_nan() && e.is_nan()) || (g - e).abs() <= tolerance * e.abs().max(1.0);
        assert!(same, "{what}[{i}]: got {g}, expected {e}");
    }
}

/// The examples of optimizers, schedulers and metrics are TOML whose own node the component itself reads.
#[test]
fn examples_are_read_by_their_components() {
    use crate::Kind;
    let kinds = [Kind::Optimizer, Kind::Scheduler, Kind::Metric];
    for descriptor in kinds.into_iter().flat_map(|kind| Registry::global().of_kind(kind)) {
        let name = descriptor.full_name();
        let example: toml::Table = toml::from_str(descriptor.example).unwrap_or_else(|e| panic!("{name}: {e}"));
        let nodes = example[descriptor.kind.as_str()].as_table().unwrap();
        let own = nodes.values().find(|node| node["type"].as_str() == Some(descriptor.name));
        let mut own = own.unwrap_or_else(|| panic!("{name} is not in its example")).as_table().unwrap().clone();
        own.remove("type");
        let component = descriptor.parse(serde_json::to_value(own).unwrap());
        let component = component.unwrap_or_else(|e| panic!("{name}: {}: {}", e.path.join("."), e.message));
        let mut problems = Problems::default();
        component.check(&mut problems);
        assert!(problems.found.is_empty(), "{name}: {:?}", problems.found);
        assert!(!descriptor.summary().is_empty(), "{name} has no summary");
        for (option, schema) in descriptor.schema()["properties"].as_object().into_iter().flatten() {
            assert!(schema.get("description").is_some(), "{name}: `{option}` is not documented");
        }
    }
}
