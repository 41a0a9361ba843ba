//! The registry: kinds of nodes, and the components that exist for each.
//!
//! - [`kind`]: kinds and node names
//! - [`port`]: field types that name other nodes
//! - [`contract`]: what the plan may know of a component
//! - [`descriptor`]: the [`Component`] trait and its type-erased form
//! - [`reload`]: what a changed option means to a run that goes on
//! - [`plugins`]: components of plugins, compiled in or loaded while the program runs

pub mod descriptor;
pub mod plugins;
pub mod port;
pub mod reference;
pub mod reload;
pub mod schema;

use std::collections::BTreeMap;
use std::sync::{OnceLock, PoisonError, RwLock};

use anyhow::{Result, bail};

pub use contract::{Contract, Event, FieldSet, Property, PropertyType};
pub use descriptor::{Component, ConfigError, Descriptor, ErasedComponent, Problems, Registration};
pub use kind::{Kind, NodeId};
pub use pipe_plugin::{contract, kind};
pub use port::{Nested, NestedKind, PortKind, Ref, Source, TransformKind, ValueRef};
pub use reload::Reload;

/// Every component that exists, by kind and type name: those compiled in, and those of plugins that were loaded.
///
/// Descriptors are never freed, because plans point to them. A plugin that is loaded anew gets new descriptors; plans made
/// before keep the old ones.
pub struct Registry {
    components: RwLock<BTreeMap<(Kind, &'static str), &'static Descriptor>>,
}

impl Registry {
    /// The one registry of the program.
    pub fn global() -> &'static Registry {
        static REGISTRY: OnceLock<Registry> = OnceLock::new();
        REGISTRY.get_or_init(|| {
            let all = inventory::iter::<Registration>.into_iter().map(|registration| (registration.0)());
            let all = all.map(|d| ((d.kind, d.name), &*Box::leak(Box::new(d)))).collect();
            let registry = Registry { components: RwLock::new(all) };
            plugins::add_linked(&registry);
            registry
        })
    }

    /// The component `type` of `kind`.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&'static Descriptor> {
        self.iter().find(|d| d.kind == kind && d.name == name)
    }

    /// All components, by kind, then by name.
    pub fn iter(&self) -> impl Iterator<Item = &'static Descriptor> {
        let components = self.components.read().unwrap_or_else(PoisonError::into_inner);
        components.values().copied().collect::<Vec<_>>().into_iter()
    }

    /// The components of a kind, by name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'static Descriptor> {
        self.iter().filter(move |d| d.kind == kind)
    }

    /// Puts a plugin's components in the place of those that the plugin of this name had.
    ///
    /// # Errors
    /// When the program or another plugin has a component of the same name; nothing is changed then.
    fn replace(&self, plugin: &str, new: &[&'static Descriptor]) -> Result<()> {
        let mut components = self.components.write().unwrap_or_else(PoisonError::into_inner);
        for descriptor in new {
            let there = components.get(&(descriptor.kind, descriptor.name));
            match there.map(|there| there.plugin().map(|owner| owner.plugin_name())) {
                None => {}
                Some(Some(owner)) if owner == plugin => {}
                Some(Some(owner)) => bail!("{} is the plugin {owner}'s already", descriptor.full_name()),
                Some(None) => bail!("{} is one of pipe's own components; choose another name", descriptor.full_name()),
            }
        }
        components.retain(|_, d| d.plugin().is_none_or(|owner| owner.plugin_name() != plugin));
        components.extend(new.iter().map(|d| ((d.kind, d.name), *d)));
        Ok(())
    }
}
