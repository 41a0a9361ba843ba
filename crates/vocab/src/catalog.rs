//! Every component that exists.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::descriptor::Descriptor;
use crate::kind::Kind;

/// Components by kind and type name. A value: a pipeline that loads plugins has a catalog of its own, and a refused edit
/// leaves none behind.
///
/// Descriptors are never freed, because plans point to them. A plugin that is loaded anew gets new descriptors; plans made
/// before keep the old ones.
#[derive(Clone, Default)]
pub struct Catalog {
    components: BTreeMap<(Kind, &'static str), &'static Descriptor>,
}

impl Catalog {
    /// A catalog of these components.
    pub fn of(components: impl IntoIterator<Item = &'static Descriptor>) -> Catalog {
        Catalog { components: components.into_iter().map(|d| ((d.kind, d.name), d)).collect() }
    }

    /// The component `type` of `kind`.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&'static Descriptor> {
        self.components.get(&(kind, name)).copied()
    }

    /// All components, by kind, then by name.
    pub fn iter(&self) -> impl Iterator<Item = &'static Descriptor> {
        self.components.values().copied()
    }

    /// The components of a kind, by name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'static Descriptor> {
        self.iter().filter(move |d| d.kind == kind)
    }

    /// Adds a plugin's components, in the place of those that the plugin of this name had.
    ///
    /// # Errors
    /// When the program or another plugin has a component of the same name; nothing is changed then.
    pub fn add_plugin(&mut self, plugin: &str, components: &[&'static Descriptor]) -> Result<()> {
        for descriptor in components {
            let there = self.get(descriptor.kind, descriptor.name);
            match there.map(|there| there.plugin.as_ref().map(|owner| &owner.name)) {
                None => {}
                Some(Some(owner)) if owner == plugin => {}
                Some(Some(owner)) => bail!("{} is already defined by the plugin {owner}", descriptor.full_name()),
                Some(None) => bail!("{} is a built-in component; choose another name", descriptor.full_name()),
            }
        }
        self.components.retain(|_, d| d.plugin.as_ref().is_none_or(|owner| owner.name != plugin));
        self.components.extend(components.iter().map(|d| ((d.kind, d.name), *d)));
        Ok(())
    }
}
