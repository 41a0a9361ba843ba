//! Plugins: components of other crates, compiled in or loaded while the program runs.
//!
//! Both come as the table of `pipe_plugin::export!` and go the same way: [`component`] makes descriptors of it, and
//! [`adapt`] fits what a plugin builds to the traits of this program.
//!
//! - [`library`]: opening a file, the symbol, the handshake
//! - [`component`]: a plugin's component as the plan sees it
//! - [`adapt`]: optimizers, schedulers, handlers
//! - [`document`]: the `[plugins]` section
//!
//! Loading changes nothing that others see: the descriptors of a library go into the catalog of the pipeline that names it.
//! A rebuilt library gives other descriptors, so a plan made anew differs from the old one by pointer. Nodes built before keep
//! the old library, which is never closed.

pub mod adapt;
pub mod component;
pub mod document;
pub mod library;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result};
use pipe_plugin::plugin::Plugin;
use pipe_vocab::{Catalog, Descriptor, PluginInfo};
use serde::Serialize;
use serde_json::Value;

pub use document::load_from;

/// A plugin of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its crate.
    pub name: String,
    /// Its crate's version.
    pub version: String,
    /// The file it was loaded from; none when it is compiled in.
    pub library: Option<PathBuf>,
    /// Its components, as `kind.type`.
    pub components: Vec<String>,
}

/// A plugin with its components.
#[derive(Clone)]
pub struct Loaded {
    /// The plugin itself.
    pub plugin: Plugin,
    /// What it is called.
    pub info: PluginInfo,
    /// Its components.
    pub components: Vec<&'static Descriptor>,
}

impl Loaded {
    fn of(plugin: Plugin, library: Option<PathBuf>) -> Result<Loaded> {
        let info = PluginInfo { name: plugin.name(), version: plugin.version(), library };
        let described = plugin.describe()?.into_iter();
        let components = described.map(|description| component::descriptor(plugin, &info, description)).collect();
        Ok(Loaded { plugin, info, components })
    }

    /// Adds the components to a catalog, in the place of those of an earlier version.
    ///
    /// # Errors
    /// When the program or another plugin has a component of the same name; nothing is changed then.
    pub fn add_to(&self, catalog: &mut Catalog) -> Result<()> {
        let PluginInfo { name, version, .. } = &self.info;
        catalog.add_plugin(name, &self.components).with_context(|| format!("plugin {name} {version}"))
    }

    /// What it is and has.
    pub fn listed(&self) -> Listed {
        let PluginInfo { name, version, library } = self.info.clone();
        Listed { name, version, library, components: self.components.iter().map(|d| d.full_name()).collect() }
    }
}

/// The program's own components and those of the plugins that are compiled in.
pub fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| {
        let mut catalog = pipe_core::builtin().clone();
        for table in pipe_plugin::plugin::linked() {
            let plugin = library::linked(table).and_then(|plugin| Loaded::of(plugin, None));
            if let Err(error) = plugin.and_then(|loaded| loaded.add_to(&mut catalog)) {
                // Only a fault of the build can be the reason; the program works without the plugin.
                tracing::warn!("a plugin that is compiled in cannot be used: {error:#}");
            }
        }
        catalog
    })
}

/// A library that was opened, in its newest version.
struct Opened {
    path: PathBuf,
    stamp: library::Stamp,
    loaded: Loaded,
}

/// Libraries stay open for good; a file that has not changed is not opened twice.
fn opened() -> MutexGuard<'static, Vec<Opened>> {
    static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a library. A file that is open already and has not changed is not opened again.
///
/// # Errors
/// When the file cannot be opened, is no plugin, or does not agree with this program (with the field that differs).
pub fn load(path: &Path) -> Result<Loaded> {
    let mut opened = opened();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = opened.iter().position(|library| library.path == path);
    if let Some(there) = there.map(|at| &mut opened[at])
        && there.stamp.is_current(&path)
    {
        return Ok(there.loaded.clone());
    }
    let (plugin, stamp) = library::open(&path)?;
    let loaded = Loaded::of(plugin, Some(path.clone()))?;
    let library = Opened { path, stamp, loaded: loaded.clone() };
    match there {
        Some(at) => opened[at] = library,
        None => opened.push(library),
    }
    Ok(loaded)
}

/// The catalog with the components of further libraries.
///
/// # Errors
/// When a library cannot be loaded.
pub fn with_libraries(libraries: &[PathBuf]) -> Result<Catalog> {
    let mut catalog = catalog().clone();
    libraries.iter().try_for_each(|path| load(path)?.add_to(&mut catalog))?;
    Ok(catalog)
}

/// All plugins of a catalog, by name.
pub fn all(catalog: &Catalog) -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    for component in catalog.iter() {
        let Some(PluginInfo { name, version, library }) = component.plugin.clone() else { continue };
        match all.iter_mut().find(|listed| listed.name == name) {
            Some(listed) => listed.components.push(component.full_name()),
            None => all.push(Listed { name, version, library, components: vec![component.full_name()] }),
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The plugins by name, for `run.json`: version, and the file for those that were loaded.
pub fn versions(catalog: &Catalog) -> Value {
    let one = |listed: Listed| {
        let library = listed.library.map(|path| path.display().to_string());
        (listed.name, serde_json::json!({ "version": listed.version, "library": library }))
    };
    Value::Object(all(catalog).into_iter().map(one).collect())
}
