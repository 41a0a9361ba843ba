//! The registry: kinds of nodes, and the components that exist for each.
//!
//! - [`kind`]: kinds and node names
//! - [`port`]: field types that name other nodes
//! - [`contract`]: what the plan may know of a component
//! - [`descriptor`]: the [`Component`] trait and its type-erased form
//! - [`reload`]: what a changed option means to a run that goes on

pub mod contract;
pub mod descriptor;
pub mod kind;
pub mod port;
pub mod reference;
pub mod reload;
pub mod schema;

use std::collections::BTreeMap;
use std::sync::OnceLock;

pub use contract::{Contract, Event, FieldSet, Property, PropertyType};
pub use descriptor::{Component, ConfigError, Descriptor, ErasedComponent, Problems, Registration};
pub use kind::{Kind, NodeId};
pub use port::{Nested, NestedKind, PortKind, Ref, Source, TransformKind, ValueRef};
pub use reload::Reload;

/// Every component that exists, by kind and type name.
pub struct Registry {
    components: BTreeMap<(Kind, &'static str), Descriptor>,
}

impl Registry {
    /// The components compiled in.
    pub fn global() -> &'static Registry {
        static REGISTRY: OnceLock<Registry> = OnceLock::new();
        REGISTRY.get_or_init(|| {
            let all = inventory::iter::<Registration>.into_iter().map(|registration| (registration.0)());
            Registry { components: all.map(|d| ((d.kind, d.name), d)).collect() }
        })
    }

    /// The component `type` of `kind`.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Descriptor> {
        self.components.iter().find(|((k, n), _)| *k == kind && *n == name).map(|(_, d)| d)
    }

    /// All components, by kind, then by name.
    pub fn iter(&self) -> impl Iterator<Item = &Descriptor> {
        self.components.values()
    }

    /// The components of a kind, by name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Descriptor> {
        self.iter().filter(move |d| d.kind == kind)
    }
}
