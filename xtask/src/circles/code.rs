//! The graphs of a crate's code.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::crates::Package;
use super::graph::Graph;
use super::tree::Tree;
use super::uses::references;
use super::why::{Why, short};

/// What depends on what within a crate.
pub(crate) struct Code {
    /// By their paths in the checkout.
    pub(crate) files: Graph<Why>,
    /// The modules right below the root, with all that is in them; the root file stands for itself.
    pub(crate) modules: Graph<Why>,
}

impl Code {
    pub(crate) fn read(root: &Path, package: &Package) -> Result<Self> {
        let mut code = Self { files: Graph::new(), modules: Graph::new() };
        for file in &package.roots {
            code.add(root, &Tree::read(file)?);
        }
        Ok(code)
    }

    fn add(&mut self, root: &Path, tree: &Tree) {
        let names: Vec<String> = tree.files.iter().map(|file| short(root, &file.path)).collect();
        let tops: Vec<String> = tree.files.iter().map(|file| top(tree, file.module)).collect();
        for (file, name) in names.iter().enumerate() {
            self.files.node(name);
            self.modules.node(&tops[file]);
            let mut first: BTreeMap<usize, Why> = BTreeMap::new();
            for reference in references(tree, file) {
                let why = || Why::new(root, &tree.files[file].path, reference.line, &reference.path);
                first.entry(reference.to).or_insert_with(why);
            }
            for (to, why) in first {
                self.files.edge(name, &names[to], why.clone());
                self.modules.edge(&tops[file], &tops[to], why);
            }
        }
    }
}

/// The first name of a module's path, or the name of the root file.
fn top(tree: &Tree, module: usize) -> String {
    let file = &tree.files[tree.modules[module].file].path;
    match tree.modules[module].path.first() {
        Some(name) => name.clone(),
        None => file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    }
}
