//! Helpers shared by the tests of components.

use std::sync::Arc;

use anyhow::Result;
use pipe_core::{Dataset, Instance, Kind, NodeId, PortKind};
use pipe_run::testing::TestRun;
use serde_json::Value;

/// Reads and builds a component that needs no other node.
pub fn build(kind: Kind, name: &str, mut config: Value) -> Result<Instance> {
    config["type"] = name.into();
    TestRun::new().try_build(&NodeId::new(kind, "test").to_string(), config)
}

/// Reads and builds a dataset.
pub fn dataset(name: &str, config: Value) -> Result<Arc<dyn Dataset>> {
    Ok(<dyn Dataset>::from_instance(&build(Kind::Dataset, name, config)?).unwrap())
}

/// The error of a dataset that cannot be built, with its causes.
pub fn error(name: &str, config: Value) -> String {
    dataset(name, config).err().map(|error| format!("{error:#}")).unwrap_or_default()
}
