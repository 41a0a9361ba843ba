//! The crates of the workspace and what they are built on, as cargo reads it from their `Cargo.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::graph::Graph;
use super::why::Why;
use crate::metadata;

/// One crate of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) manifest: PathBuf,
    /// The root files of its library and its programs.
    pub(crate) roots: Vec<PathBuf>,
    /// Names of crates of the workspace. What only its tests use is left out: cargo itself allows circles there.
    uses: Vec<String>,
}

#[cfg(test)]
impl Package {
    /// One that is nothing but its root file.
    pub(crate) fn with_root(root: PathBuf) -> Self {
        let manifest = root.with_file_name("Cargo.toml");
        Self { name: "it".into(), description: String::new(), manifest, roots: vec![root], uses: Vec::new() }
    }
}

/// All crates, by their names.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>> {
    let metadata = metadata::read(root)?;
    let mut packages: Vec<Package> = list(&metadata["packages"]).map(package).collect::<Result<_>>()?;
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    let folders: BTreeMap<PathBuf, String> =
        packages.iter().map(|package| (folder(&package.manifest), package.name.clone())).collect();
    for package in &mut packages {
        package.uses = std::mem::take(&mut package.uses)
            .into_iter()
            .filter_map(|path| folders.get(Path::new(&path)).cloned())
            .collect();
    }
    Ok(packages)
}

fn package(value: &Value) -> Result<Package> {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let of_program = |target: &&Value| {
        list(&target["kind"])
            .any(|kind| matches!(kind.as_str(), Some("lib" | "rlib" | "cdylib" | "proc-macro" | "bin")))
    };
    let mut roots: Vec<PathBuf> =
        list(&value["targets"]).filter(of_program).filter_map(|t| Some(t["src_path"].as_str()?.into())).collect();
    roots.sort();
    let uses = list(&value["dependencies"])
        .filter(|dependency| dependency["kind"] != "dev")
        .filter_map(|dependency| dependency["path"].as_str().map(str::to_owned))
        .collect();
    Ok(Package {
        name: text("name").context("cargo metadata names no package")?,
        description: text("description").unwrap_or_default(),
        manifest: text("manifest_path").context("cargo metadata names no manifest")?.into(),
        roots,
        uses,
    })
}

/// Which crate is built on which.
pub(crate) fn graph(root: &Path, packages: &[Package]) -> Result<Graph<Why>> {
    let mut graph = Graph::new();
    for package in packages {
        graph.node(&package.name);
        let text = fs::read_to_string(&package.manifest).with_context(|| package.manifest.display().to_string())?;
        for name in &package.uses {
            graph.edge(&package.name, name, why(root, package, &text, name));
        }
    }
    Ok(graph)
}

fn why(root: &Path, package: &Package, manifest: &str, name: &str) -> Why {
    let names_it = |line: &str| {
        let rest = line.trim_start().trim_start_matches('"').strip_prefix(name).unwrap_or_default();
        rest.starts_with(['=', ' ', '.', '"'])
    };
    let line = manifest.lines().position(|line| names_it(line) || line.ends_with(&format!("dependencies.{name}]")));
    Why::new(root, &package.manifest, line.map_or(1, |line| line + 1), name)
}

fn folder(manifest: &Path) -> PathBuf {
    manifest.parent().unwrap_or(Path::new("")).to_path_buf()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
