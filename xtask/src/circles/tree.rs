//! The modules of a crate with the names in them, read from its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use syn::visit::Visit;
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

use super::syntax::{attributes, only_in_tests, path_attribute};

/// One crate: its modules, the root first, and the files that they are in.
pub(crate) struct Tree {
    pub(crate) modules: Vec<Module>,
    pub(crate) files: Vec<SourceFile>,
    /// Macros by name: those without a path are found by order in the text, which is not followed.
    pub(crate) macros: BTreeMap<String, usize>,
}

pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    pub(crate) syntax: syn::File,
    pub(crate) module: usize,
}

/// A module, in a file of its own or within one.
pub(crate) struct Module {
    pub(crate) path: Vec<String>,
    pub(crate) file: usize,
    pub(crate) parent: Option<usize>,
    pub(crate) children: BTreeMap<String, usize>,
    pub(crate) items: BTreeMap<String, Definition>,
    pub(crate) imports: BTreeMap<String, Vec<Import>>,
    pub(crate) globs: Vec<Import>,
}

#[derive(Clone, Copy)]
pub(crate) struct Definition {
    /// The module where it stands; another one only for exported macros.
    pub(crate) module: usize,
    pub(crate) public: bool,
}

/// What a `use` brings in.
#[derive(Clone)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    pub(crate) public: bool,
}

/// One name of a `use`.
pub(crate) struct UseName {
    pub(crate) path: Vec<String>,
    /// The name it gets here; none for `*`.
    pub(crate) name: Option<String>,
    pub(crate) line: usize,
}

impl Tree {
    /// Reads a crate from its root file on. Code that exists only in tests is left out.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self { modules: Vec::new(), files: Vec::new(), macros: BTreeMap::new() };
        tree.read_file(root, None, Vec::new(), true)?;
        Ok(tree)
    }

    /// Whether a module is another one or within it.
    pub(crate) fn is_within(&self, module: usize, outer: usize) -> bool {
        self.modules[module].path.starts_with(&self.modules[outer].path)
    }

    fn read_file(
        &mut self,
        path: &Path,
        parent: Option<usize>,
        names: Vec<String>,
        owns_folder: bool,
    ) -> Result<usize> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let syntax = syn::parse_file(&text)
            .map_err(|error| anyhow!("{}:{}: {error}", path.display(), error.span().start().line))?;
        let file = self.files.len();
        let module = self.modules.len();
        let empty = syn::File { shebang: None, attrs: Vec::new(), items: Vec::new() };
        self.files.push(SourceFile { path: path.to_path_buf(), syntax: empty, module });
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let stem = path.file_stem().unwrap_or_default();
        let below = if owns_folder || stem == "mod" { folder } else { folder.join(stem) };
        self.read_module(file, parent, names, &syntax.items, &below)?;
        self.files[file].syntax = syntax;
        Ok(module)
    }

    fn read_module(
        &mut self,
        file: usize,
        parent: Option<usize>,
        path: Vec<String>,
        items: &[Item],
        below: &Path,
    ) -> Result<usize> {
        let module = self.modules.len();
        self.modules.push(Module {
            path,
            file,
            parent,
            children: BTreeMap::new(),
            items: BTreeMap::new(),
            imports: BTreeMap::new(),
            globs: Vec::new(),
        });
        for item in items {
            if !only_in_tests(attributes(item)) {
                self.read_item(module, item, below)?;
            }
        }
        Ok(module)
    }

    fn read_item(&mut self, module: usize, item: &Item, below: &Path) -> Result<()> {
        match item {
            Item::Mod(child) => self.read_child(module, child, below)?,
            Item::Use(import) => {
                for name in use_names(import) {
                    self.import(module, name, is_public(&import.vis));
                }
            }
            Item::Macro(rules) => {
                if let Some(name) = &rules.ident {
                    self.define_macro(module, &name.to_string(), &rules.attrs);
                }
            }
            _ => {
                if let Some((name, visibility)) = name_of(item) {
                    self.define(module, name, is_public(visibility));
                }
            }
        }
        // `use` in functions: their names count as the module's, where it has none of its own.
        let mut inner = InnerUses(Vec::new());
        if !matches!(item, Item::Mod(_) | Item::Use(_)) {
            inner.visit_item(item);
        }
        for name in inner.0 {
            if name.name.as_ref().is_none_or(|name| !self.modules[module].items.contains_key(name)) {
                self.import(module, name, false);
            }
        }
        Ok(())
    }

    fn read_child(&mut self, module: usize, child: &ItemMod, below: &Path) -> Result<()> {
        let name = child.ident.to_string();
        let path = [self.modules[module].path.as_slice(), std::slice::from_ref(&name)].concat();
        let index = match &child.content {
            Some((_, items)) => {
                self.read_module(self.modules[module].file, Some(module), path, items, &below.join(&name))?
            }
            None => {
                let file = self.file_of(module, child, below)?;
                self.read_file(&file, Some(module), path, false)?
            }
        };
        self.modules[module].children.insert(name, index);
        Ok(())
    }

    fn file_of(&self, module: usize, child: &ItemMod, below: &Path) -> Result<PathBuf> {
        let declared_in = &self.files[self.modules[module].file].path;
        let name = child.ident.to_string();
        let places = match path_attribute(&child.attrs) {
            Some(given) => vec![declared_in.parent().unwrap_or(Path::new("")).join(given)],
            None => vec![below.join(format!("{name}.rs")), below.join(&name).join("mod.rs")],
        };
        let line = child.ident.span().start().line;
        places
            .into_iter()
            .find(|path| path.is_file())
            .with_context(|| format!("{}:{line}: there is no file for `mod {name}`", declared_in.display()))
    }

    fn define(&mut self, module: usize, name: String, public: bool) {
        self.modules[module].items.insert(name, Definition { module, public });
    }

    fn define_macro(&mut self, module: usize, name: &str, attrs: &[Attribute]) {
        self.define(module, name.to_owned(), false);
        if attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) {
            self.modules[0].items.insert(name.to_owned(), Definition { module, public: true });
        }
        self.macros.insert(name.to_owned(), module);
    }

    fn import(&mut self, module: usize, UseName { path, name, .. }: UseName, public: bool) {
        let import = Import { path, public };
        let module = &mut self.modules[module];
        match name {
            None => module.globs.push(import),
            Some(name) => module.imports.entry(name).or_default().push(import),
        }
    }
}

/// The names that a `use` brings in; none for one that starts with `::`, which is another crate's.
pub(crate) fn use_names(import: &ItemUse) -> Vec<UseName> {
    let mut found = Vec::new();
    if import.leading_colon.is_none() {
        flatten(&import.tree, &mut Vec::new(), &mut found);
    }
    found
}

fn flatten(tree: &UseTree, path: &mut Vec<String>, found: &mut Vec<UseName>) {
    let mut leaf = |last: &syn::Ident, path: &[String], name: String| {
        let mut path = path.to_vec();
        let mut name = name;
        if last != "self" || path.is_empty() {
            path.push(last.to_string());
        } else if name == "self" {
            // `use a::b::{self}` brings in `b`.
            name.clone_from(&path[path.len() - 1]);
        }
        found.push(UseName { path, name: Some(name), line: last.span().start().line });
    };
    match tree {
        UseTree::Path(step) => {
            path.push(step.ident.to_string());
            flatten(&step.tree, path, found);
            path.pop();
        }
        UseTree::Name(last) => leaf(&last.ident, path, last.ident.to_string()),
        UseTree::Rename(last) => leaf(&last.ident, path, last.rename.to_string()),
        UseTree::Glob(star) => {
            let line = star.star_token.spans[0].start().line;
            found.push(UseName { path: path.clone(), name: None, line });
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, path, found)),
    }
}

fn name_of(item: &Item) -> Option<(String, &Visibility)> {
    let (name, visibility) = match item {
        Item::Const(item) => (&item.ident, &item.vis),
        Item::Enum(item) => (&item.ident, &item.vis),
        Item::Fn(item) => (&item.sig.ident, &item.vis),
        Item::Static(item) => (&item.ident, &item.vis),
        Item::Struct(item) => (&item.ident, &item.vis),
        Item::Trait(item) => (&item.ident, &item.vis),
        Item::TraitAlias(item) => (&item.ident, &item.vis),
        Item::Type(item) => (&item.ident, &item.vis),
        Item::Union(item) => (&item.ident, &item.vis),
        _ => return None,
    };
    Some((name.to_string(), visibility))
}

pub(crate) fn is_public(visibility: &Visibility) -> bool {
    !matches!(visibility, Visibility::Inherited)
}

/// `use` within functions.
struct InnerUses(Vec<UseName>);

impl<'ast> Visit<'ast> for InnerUses {
    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        if !only_in_tests(&import.attrs) {
            self.0.extend(use_names(import));
        }
    }
}
