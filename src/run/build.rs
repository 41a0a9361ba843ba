//! From a plan's configurations to built nodes.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use super::{Instance, RunContext};
use crate::registry::{Kind, Nested, NestedKind, NodeId, PortKind, Ref, Registry};

/// What a component may use while it is built.
pub struct BuildContext<'a> {
    /// The run that the node will belong to.
    pub run: &'a Rc<RunContext>,
    /// The node's own name.
    pub node: &'a NodeId,
}

impl BuildContext<'_> {
    /// The node that fills a port.
    ///
    /// # Errors
    /// When it has not been built: a fault of the plan's order.
    pub fn get<T: PortKind + ?Sized>(&self, port: &Ref<T>) -> Result<T::Shared> {
        let instance = self.run.node(&port.node)?;
        T::from_instance(&instance).ok_or_else(|| anyhow!("{} is not {}", port.node, T::KIND.with_article()))
    }

    /// Builds a component written in place.
    ///
    /// # Errors
    /// When there is no such component, its options do not fit, or it cannot be built.
    pub fn nested<K: NestedKind>(&mut self, nested: &Nested<K>) -> Result<Instance> {
        parse_nested(K::KIND, nested.table.clone())?.build(self)
    }

    /// The folder in which a component may keep files of this run.
    pub fn folder(&self) -> &Path {
        self.run.folder.path()
    }
}

/// Reads the table of a component written in place.
///
/// # Errors
/// When there is no such component or its options do not fit.
pub fn parse_nested(
    kind: Kind,
    mut table: serde_json::Map<String, Value>,
) -> Result<Box<dyn crate::registry::ErasedComponent>> {
    let name = table.shift_remove("type");
    let name = name.as_ref().and_then(Value::as_str).with_context(|| format!("a {kind} in place needs a `type`"))?;
    let descriptor =
        Registry::global().get(kind, name).with_context(|| format!("there is no {kind} of type `{name}`"))?;
    descriptor
        .parse(table.into())
        .map_err(|error| anyhow!("{kind}.{name}: {}: {}", error.path.join("."), error.message))
}
