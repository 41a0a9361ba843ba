//! Loading: the file and its parents, then the profile, then `--set`, then variables.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::{Key, article};
use super::document::Document;
use super::limits::{MAX_BYTES, MAX_DEPTH};
use super::merge::merge;
use super::overrides::{Overrides, Unset};
use super::path_value::normalize;
use super::unused::{Tables, Unused};
use super::{Entry, Layer, Node, Table, Value, parse, unset, vars};
use pipe_vocab::{Kind, files};

use crate::diagnostic::{Diagnostic, Diagnostics, Location, SourceId, Sources, suggest};

/// A chain of parents longer than this is a mistake.
const MAX_PARENTS: usize = 16;

/// What to load with, and the only two ways in which loading touches the world.
pub struct LoadOptions<'a> {
    /// `--profile NAME`.
    pub profile: Option<String>,
    /// The arguments of each `--set`, in order.
    pub sets: Vec<String>,
    /// The folder that relative paths of the main file start from, where that is not the file's own. For the resolved
    /// copy of a pipeline that a run keeps.
    pub base: Option<PathBuf>,
    /// Reads an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// Reads a pipeline's file.
///
/// # Errors
/// When it cannot be read, is no regular file, not UTF-8, or longer than any pipeline (4 MiB).
pub fn read_file(path: &Path) -> io::Result<String> {
    files::read_text(path, MAX_BYTES as u64)
}

impl Default for LoadOptions<'static> {
    /// No profile and no overrides; the environment and the disk of the process.
    fn default() -> Self {
        Self { profile: None, sets: Vec::new(), base: None, env: &|name| std::env::var(name).ok(), read: &read_file }
    }
}

impl Document {
    /// Reads a pipeline. `sources` receives every text read, for rendering the diagnostics and for [`Document::show`].
    ///
    /// As much of a document as there is comes back even with errors, so that later phases can report theirs too; it must
    /// not be run then. `None` only where the file itself cannot be read.
    pub fn load(path: &Path, options: &LoadOptions<'_>, sources: &mut Sources) -> (Option<Self>, Diagnostics) {
        let mut found = Diagnostics::new();
        let document = Loader { options, sources, found: &mut found, incomplete: false }.load(path);
        (document, found)
    }
}

/// A file as read, before anything is applied.
struct File {
    source: SourceId,
    path: PathBuf,
    table: Table,
    unset: Vec<Unset>,
    profiles: Table,
}

/// One `--set`.
enum Set {
    Value(Table),
    Null(Unset),
}

struct Loader<'a, 'o> {
    options: &'a LoadOptions<'o>,
    sources: &'a mut Sources,
    found: &'a mut Diagnostics,
    /// Whether a parent is missing, which may have what is not found.
    incomplete: bool,
}

impl Loader<'_, '_> {
    fn load(mut self, path: &Path) -> Option<Document> {
        let text = match (self.options.read)(path) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("cannot read `{}`: {}", path.display(), reason(&error));
                self.found.push(Diagnostic::error("unreadable-file", message));
                return None;
            }
        };
        let mut files = self.chain(path, text);
        let main = files.first()?.source;
        let sets = self.sets();
        let tables: Vec<_> = files.iter().map(|file| Tables { own: &file.table, profiles: &file.profiles }).collect();
        let values = sets.iter().filter_map(|set| match set {
            Set::Value(table) => Some(table),
            Set::Null(_) => None,
        });
        let mut unused = Unused::collect(&tables, values);

        let (mut root, mut overrides) = (Table::default(), Overrides::default());
        for file in files.iter_mut().rev() {
            let (table, unset) = (std::mem::take(&mut file.table), std::mem::take(&mut file.unset));
            self.put(&mut root, table, unset, &mut overrides);
        }
        let profile = self.apply_profile(&mut root, files, &mut overrides);
        for set in sets {
            match set {
                Set::Value(table) => merge(&mut root, table, &mut overrides, self.found),
                Set::Null(unset) => unset::apply(&mut root, unset, &mut overrides, self.found),
            }
        }
        let raw_vars = self.section(&mut root, "vars");
        unused.effective(&root, &raw_vars);
        let vars = vars::resolve(raw_vars, &mut root, self.options.env, self.sources, self.found);
        // What could not be read may have used any variable.
        if !self.found.has_errors() {
            unused.report(&vars, self.found);
        }
        let mut apart = Table::default();
        for key in APART {
            root.remove(key).into_iter().for_each(|entry| drop(apart.insert(key, entry)));
        }
        Some(Document {
            main,
            root,
            vars,
            apart,
            profile,
            overrides,
            home: (self.options.env)("HOME").map(PathBuf::from),
            base: self.options.base.clone(),
            redacted: BTreeSet::new(),
        })
    }

    /// Puts a layer on top: what it takes away first.
    fn put(&mut self, root: &mut Table, table: Table, unset: Vec<Unset>, overrides: &mut Overrides) {
        unset.into_iter().for_each(|unset| unset::apply(root, unset, overrides, self.found));
        merge(root, table, overrides, self.found);
    }

    /// The file and its parents, nearest first.
    fn chain(&mut self, path: &Path, text: String) -> Vec<File> {
        let mut files: Vec<File> = Vec::new();
        let mut next = Some((path.to_owned(), text, None));
        while let Some((path, text, named_at)) = next.take() {
            let layer = table_layer(&files);
            let source = self.sources.add_file(&path, text);
            let text = self.sources.text(source).to_owned();
            let mut found = Diagnostics::new();
            let mut table = parse::parse(&text, source, layer, &mut found);
            if let Some(at) = named_at.filter(|_| !is_pipeline(&table, &found)) {
                // Nothing of it is quoted: whoever wrote the child need not be allowed to read it.
                let message = format!("the parent `{}` is no pipeline", path.display());
                let problem = Diagnostic::error("invalid-extends", message).at(at);
                self.found
                    .push(problem.help("it has none of the tables of one, such as [pipeline], [vars] or [model.NAME]"));
                self.incomplete = true;
                break;
            }
            self.found.merge(found);
            let extends = table.remove("extends");
            let unset = table.remove("unset").map(|entry| unset::read(entry, &table_layer(&files), self.found));
            let profiles = self.section(&mut table, "profile");
            profiles.iter().for_each(|(name, entry)| self.check_profile(name, entry));
            files.push(File { source, path, table, unset: unset.unwrap_or_default(), profiles });
            next = extends.and_then(|entry| {
                let parent = self.parent(&files, &entry);
                self.incomplete |= parent.is_none();
                let (path, text) = parent?;
                Some((path, text, Some(entry.node.location)))
            });
        }
        files
    }

    /// Path and text of the parent that the last file names.
    fn parent(&mut self, files: &[File], extends: &Entry) -> Option<(PathBuf, String)> {
        let at = extends.node.location.clone();
        let Some(name) = extends.node.as_str() else {
            let kind = article(extends.node.value.kind());
            let problem = Diagnostic::error("invalid-extends", format!("`extends` is {kind}"))
                .at(at)
                .help("give one file: extends = \"base.toml\"");
            self.found.push(problem);
            return None;
        };
        if name.contains("${") {
            let problem = Diagnostic::error("invalid-extends", "`extends` cannot use variables")
                .at(at)
                .help("variables are resolved only after all parents are loaded");
            self.found.push(problem);
            return None;
        }
        let folder = files.last()?.path.parent().unwrap_or(Path::new(""));
        let path = normalize(&folder.join(name));
        let same = |file: &&File| normalize(&file.path) == path;
        let shown = |path: &Path| path.display().to_string();
        if let Some(start) = files.iter().position(|file| same(&file)) {
            let mut names: Vec<_> =
                files[start..].iter().map(|file| self.sources.name(file.source).to_owned()).collect();
            names.push(names.first().cloned().unwrap_or_default());
            let message = format!("`extends` is circular: {}", names.join(" → "));
            self.found.push(Diagnostic::error("extends-cycle", message).at(at));
            return None;
        }
        if files.len() > MAX_PARENTS {
            let message = format!("`extends` is nested deeper than {MAX_PARENTS} files");
            self.found.push(Diagnostic::error("invalid-extends", message).at(at));
            return None;
        }
        match (self.options.read)(&path) {
            Ok(text) => Some((path, text)),
            Err(error) => {
                let message = format!("cannot read the parent `{}`: {}", shown(&path), reason(&error));
                let problem = Diagnostic::error("unreadable-file", message)
                    .at(at)
                    .help("the path is relative to the folder of this file");
                self.found.push(problem);
                None
            }
        }
    }

    /// Each `--set`.
    fn sets(&mut self) -> Vec<Set> {
        let mut sets = Vec::new();
        let mut seen: HashMap<Vec<String>, Location> = HashMap::new();
        for text in &self.options.sets {
            let source = self.sources.add_set(text.as_str());
            let Some((keys, value)) = parse::parse_set(text, source, self.found) else {
                continue;
            };
            let names: Vec<String> = keys.iter().map(|key| key.name.clone()).collect();
            let at = Location::new(source, 0..text.len());
            let shown = names.join(".");
            if let Some(first) = seen.insert(names, at.clone()) {
                let problem = Diagnostic::error("repeated-set", format!("`--set {shown}` is given twice"));
                self.found.push(problem.at(at).label(first, "first here").help("leave one of the two away"));
            }
            let reserved = keys.first().filter(|key| ["extends", "profile", "unset"].contains(&key.name.as_str()));
            if let Some(key) = reserved {
                let help = match key.name.as_str() {
                    "profile" => "use `--profile NAME`",
                    "unset" => "write `--set KEY=null`",
                    _ => "set the parent in the file",
                };
                let message = format!("`--set` cannot set `{}`", key.name);
                let problem = Diagnostic::error("invalid-set", message);
                self.found.push(problem.at(key.location.clone()).help(help));
            } else if keys.len() > MAX_DEPTH {
                let message = format!("nested deeper than {} levels", MAX_DEPTH);
                let at = Location::new(source, 0..text.len());
                self.found.push(Diagnostic::error("invalid-set", message).at(at));
            } else if let Some(value) = value {
                sets.push(Set::Value(tree(&keys, value)));
            } else {
                let path = keys.into_iter().map(|key| key.name).collect();
                let location = Location::new(source, 0..text.len());
                sets.push(Set::Null(Unset { path, location, layer: Layer::Set }));
            }
        }
        sets
    }

    /// Puts the wanted profile on top, that of the parent first.
    fn apply_profile(&mut self, root: &mut Table, files: Vec<File>, overrides: &mut Overrides) -> Option<String> {
        let wanted = self.options.profile.as_deref()?;
        if !files.iter().any(|file| file.profiles.get(wanted).is_some()) {
            if !self.incomplete {
                self.found.push(unknown_profile(wanted, &files));
            }
            return None;
        }
        let layer = Layer::Profile(Arc::from(wanted));
        for mut file in files.into_iter().rev() {
            let Some(Value::Table(mut table)) = file.profiles.remove(wanted).map(|entry| entry.node.value) else {
                continue;
            };
            table.remove("extends");
            table.remove("profile");
            let unset = table.remove("unset").map(|entry| unset::read(entry, &layer, self.found));
            relabel(&mut table, &layer);
            self.put(root, table, unset.unwrap_or_default(), overrides);
        }
        Some(wanted.to_owned())
    }

    fn check_profile(&mut self, name: &str, entry: &Entry) {
        let Some(table) = entry.node.as_table() else {
            let kind = article(entry.node.value.kind());
            let problem = Diagnostic::error("invalid-profile", format!("the profile `{name}` is {kind}"))
                .at(entry.key.clone())
                .help(format!("a profile is a table: [profile.{name}]"));
            self.found.push(problem);
            return;
        };
        for key in ["extends", "profile"] {
            if let Some(inner) = table.entry(key) {
                let message = format!("a profile cannot set `{key}`");
                self.found.push(Diagnostic::error("invalid-profile", message).at(inner.key.clone()));
            }
        }
    }

    /// Takes a section out that must be a table.
    fn section(&mut self, root: &mut Table, name: &str) -> Table {
        let Some(entry) = root.remove(name) else {
            return Table::default();
        };
        match entry.node.value {
            Value::Table(table) => table,
            other => {
                let message = format!("`{name}` is {}, and must be a table", article(other.kind()));
                let problem = Diagnostic::error("invalid-section", message).at(entry.key);
                self.found.push(problem.help(format!("write [{name}]")));
                Table::default()
            }
        }
    }
}

/// Sections about runs of the pipeline that are no part of one.
const APART: [&str; 2] = ["sweep", "submit"];

/// Whether a text is a pipeline's or says nothing at all; not whether it is a good one.
fn is_pipeline(table: &Table, found: &Diagnostics) -> bool {
    let known = |key: &str| {
        let sections = ["extends", "unset", "pipeline", "vars", "on", "plugins"];
        sections.contains(&key) || APART.contains(&key) || Kind::parse(key).is_some()
    };
    // Other programs have profiles too.
    let profiles = table.get("profile").and_then(Node::as_table).into_iter().flat_map(Table::iter);
    let mut profiles = profiles.filter_map(|(_, entry)| entry.node.as_table());
    let empty = table.is_empty() && !found.has_errors();
    empty || table.keys().any(known) || profiles.any(|profile| profile.keys().any(known))
}

/// What the operating system says, without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    }
}

/// The layer of the next file of the chain.
fn table_layer(files: &[File]) -> Layer {
    if files.is_empty() { Layer::File } else { Layer::Parent }
}

fn unknown_profile(wanted: &str, files: &[File]) -> Diagnostic {
    let mut names: Vec<&str> = Vec::new();
    for name in files.iter().rev().flat_map(|file| file.profiles.keys()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let list = match &names[..] {
        [] => "this pipeline has no profiles".to_owned(),
        [only] => format!("the only profile is `{only}`"),
        many => format!("the profiles are `{}`", many.join("`, `")),
    };
    let help = match suggest(wanted, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {list}"),
        None => list,
    };
    Diagnostic::error("unknown-profile", format!("there is no profile `{wanted}`")).help(help)
}

/// `value` at the end of the keys.
fn tree(keys: &[Key], value: Node) -> Table {
    let single = |key: &Key, node: Node| {
        let mut table = Table::default();
        table.insert(key.name.clone(), Entry { key: key.location.clone(), node });
        table
    };
    let Some((last, way)) = keys.split_last() else {
        return Table::default();
    };
    way.iter().rev().fold(single(last, value), |inner, key| {
        single(key, Node::new(Value::Table(inner), key.location.clone(), Layer::Set))
    })
}

/// Gives every value of a profile its layer.
fn relabel(table: &mut Table, layer: &Layer) {
    fn visit(node: &mut Node, layer: &Layer) {
        node.origin.layer = layer.clone();
        match &mut node.value {
            Value::Array(items) => items.iter_mut().for_each(|item| visit(item, layer)),
            Value::Table(table) => relabel(table, layer),
            _ => {}
        }
    }
    for (_, entry) in table.iter_mut() {
        visit(&mut entry.node, layer);
    }
}
