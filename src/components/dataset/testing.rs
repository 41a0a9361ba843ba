//! What the tests of components share.

use std::rc::Rc;
use std::sync::Arc;

use anyhow::Result;
use serde_json::Value;

use super::Dataset;
use crate::registry::{Kind, NodeId, PortKind, Registry};
use crate::run::{BuildContext, Instance, Precision, RunContext, RunFolder};

/// Reads and builds a component that needs no other node.
pub fn build(kind: Kind, name: &str, config: Value) -> Result<Instance> {
    let folder = tempfile::tempdir()?;
    let folder = RunFolder::open(folder.path())?;
    let run = RunContext::new(tch::Device::Cpu, Precision::Fp32, 1, folder, Arc::default());
    let component = Registry::global().get(kind, name).unwrap().parse(config);
    let component = component.map_err(|error| anyhow::anyhow!("{}: {}", error.path.join("."), error.message))?;
    component.build(&mut BuildContext { run: &Rc::new(run), node: &NodeId::new(kind, "test") })
}

/// Reads and builds a dataset.
pub fn dataset(name: &str, config: Value) -> Result<Arc<dyn Dataset>> {
    Ok(<dyn Dataset>::from_instance(&build(Kind::Dataset, name, config)?).unwrap())
}

/// The error of a dataset that cannot be built, with its causes.
pub fn error(name: &str, config: Value) -> String {
    dataset(name, config).err().map(|error| format!("{error:#}")).unwrap_or_default()
}
