//! Plugins: components of other crates, compiled in or loaded while the program runs.
//!
//! Both come as the table of `pipe_plugin::export!` and go the same way: [`component`] makes descriptors of it, and
//! [`adapt`] fits what a plugin builds to the traits of this program.
//!
//! - [`library`]: opening a file, the symbol, the handshake
//! - [`component`]: a plugin's component as the plan sees it
//! - [`adapt`]: datasets, optimizers, schedulers, handlers
//! - [`document`]: the `[plugins]` section
//!
//! For hot reload: [`files`] are to be watched; [`reload_changed`] takes up those that have changed. After it the registry
//! gives other `&'static Descriptor`s for their components, so a plan made anew differs from the old one by pointer. Nodes
//! built before keep the old library, which is never closed.

pub mod adapt;
pub mod component;
pub mod document;
pub mod library;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use pipe_plugin::plugin::Plugin;
use serde::Serialize;
use serde_json::Value;

pub use component::PluginComponent;
pub use document::load_from;
pub use pipe_plugin::plugin::Description;

use super::{Descriptor, Registry};
// Named here so that the linker keeps them: they register themselves.
use {pipe_boundary as _, pipe_copy_paste as _};

/// A plugin that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// Its crate.
    pub name: String,
    /// Its crate's version.
    pub version: String,
    /// The file it was loaded from; none when it is compiled in.
    pub library: Option<PathBuf>,
    /// Its components, as `kind.type`.
    pub components: Vec<String>,
}

/// A library that was loaded, in its newest version.
struct Library {
    path: PathBuf,
    stamp: library::Stamp,
    loaded: Loaded,
}

fn libraries() -> MutexGuard<'static, Vec<Library>> {
    static LIBRARIES: Mutex<Vec<Library>> = Mutex::new(Vec::new());
    LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Loads a library and adds its components to the registry, in the place of those of an earlier version. A file that is
/// loaded already and has not changed is left alone.
///
/// # Errors
/// When the file cannot be opened, is no plugin, does not agree with this program (with the field that differs), or has a
/// component whose name is taken. What was there before stays.
pub fn load(path: &Path) -> Result<Loaded> {
    let mut libraries = libraries();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = libraries.iter().position(|library| library.path == path);
    if let Some(there) = there.map(|at| &mut libraries[at])
        && there.stamp.is_current(&path)
    {
        return Ok(there.loaded.clone());
    }
    let (plugin, stamp) = library::open(&path)?;
    let loaded = add(Registry::global(), plugin, Some(path.clone()))?;
    let library = Library { path, stamp, loaded: loaded.clone() };
    match there {
        Some(at) => libraries[at] = library,
        None => libraries.push(library),
    }
    Ok(loaded)
}

/// The files of all loaded libraries.
pub fn files() -> Vec<PathBuf> {
    libraries().iter().map(|library| library.path.clone()).collect()
}

/// Loads the libraries whose files have changed since they were loaded; those whose bytes are the same are left alone.
/// Each comes with what became of it: after an error the version loaded before is still there, and the next call tries
/// again.
pub fn reload_changed() -> Vec<(PathBuf, Result<Loaded>)> {
    let changed = |library: &mut Library| !library.stamp.is_current(&library.path);
    let mut changed: Vec<PathBuf> =
        libraries().iter_mut().filter_map(|library| changed(library).then(|| library.path.clone())).collect();
    changed.drain(..).map(|path| (path.clone(), load(&path))).collect()
}

/// All plugins that are there, by name.
pub fn all() -> Vec<Loaded> {
    let mut all: Vec<Loaded> = Vec::new();
    for component in Registry::global().iter() {
        let Some(part) = component.plugin() else { continue };
        match all.iter_mut().find(|loaded| loaded.name == part.plugin_name()) {
            Some(loaded) => loaded.components.push(component.full_name()),
            None => all.push(part.loaded(vec![component.full_name()])),
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Adds the plugins that are compiled in.
pub(super) fn add_linked(registry: &Registry) {
    for table in pipe_plugin::plugin::linked() {
        let plugin = library::linked(table);
        let added = plugin.and_then(|plugin| add(registry, plugin, None));
        if let Err(error) = added {
            // Only a fault of the build can be the reason; the program works without the plugin.
            eprintln!("warning: a plugin that is compiled in cannot be used: {error:#}");
        }
    }
}

/// Describes a plugin's components to the registry.
fn add(registry: &Registry, plugin: Plugin, library: Option<PathBuf>) -> Result<Loaded> {
    let described = plugin.describe()?;
    let descriptors: Vec<&'static Descriptor> = described
        .into_iter()
        .map(|description| {
            let part = PluginComponent::new(plugin, library.clone(), &description);
            Descriptor::of_plugin(description, part)
        })
        .collect();
    let name = plugin.name();
    registry.replace(&name, &descriptors).with_context(|| format!("plugin {name} {}", plugin.version()))?;
    let components = descriptors.iter().map(|d| d.full_name()).collect();
    Ok(Loaded { name, version: plugin.version(), library, components })
}

/// The plugins by name, for `run.json`: version, and the file for those that were loaded.
pub fn versions() -> Value {
    let one = |loaded: Loaded| {
        let library = loaded.library.map(|path| path.display().to_string());
        (loaded.name, serde_json::json!({ "version": loaded.version, "library": library }))
    };
    Value::Object(all().into_iter().map(one).collect())
}
