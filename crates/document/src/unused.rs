//! Variables that are defined and not used: in files a warning, on the command line an error.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Entry, Node, Table, vars};
use crate::diagnostic::{Diagnostic, Diagnostics, Location, suggest};

/// So many unused variables are told one by one: more would leave no room for errors.
const MAX_UNUSED: usize = 100;

/// The tables of a file: its own, and its profiles.
pub(super) struct Tables<'a> {
    pub own: &'a Table,
    pub profiles: &'a Table,
}

/// Variables that the user of the main file defines, and those that anything uses.
///
/// A variable of a parent is never called unused: it may be there for other children. Uses count wherever they stand, in
/// profiles that are not applied and in values that are overridden too. A variable of the command line must have an effect.
pub(super) struct Unused {
    defined: Vec<(String, Location)>,
    set: Vec<(String, Location)>,
    used: HashSet<String>,
    base: HashSet<String>,
    /// Used by what is left when all is applied.
    effective: HashSet<String>,
    /// Keys of nodes that are called as a variable of the command line, of each the first.
    options: HashMap<String, String>,
}

impl Unused {
    /// `files` begin with the main one.
    pub fn collect<'a>(files: &[Tables<'a>], sets: impl Iterator<Item = &'a Table> + Clone) -> Self {
        let mut used = HashSet::new();
        for table in files.iter().flat_map(|file| [file.own, file.profiles]).chain(sets.clone()) {
            vars::used_names(table, &mut used);
        }
        let main = files.first();
        let profiles = main.into_iter().flat_map(|file| file.profiles.iter());
        let profiles = profiles.filter_map(|(_, entry)| entry.node.as_table());
        let named = |table| vars_of(table).map(|(name, entry)| (name.to_owned(), entry.key.clone()));
        Self {
            defined: main.map(|file| file.own).into_iter().chain(profiles).flat_map(named).collect(),
            set: sets.flat_map(named).collect(),
            used,
            base: files.iter().flat_map(|file| vars_of(file.own)).map(|(name, _)| name.to_owned()).collect(),
            effective: HashSet::new(),
            options: HashMap::new(),
        }
    }

    /// Looks at what is left when all is applied: the tree, and the variables that it is made of.
    pub fn effective(&mut self, root: &Table, vars: &Table) {
        if self.set.is_empty() {
            return;
        }
        let mut open = HashSet::new();
        vars::used_names(root, &mut open);
        let mut open: Vec<String> = open.into_iter().collect();
        while let Some(name) = open.pop() {
            if let Some(node) = vars.get(&name).filter(|_| !self.effective.contains(&name)) {
                let mut inner = HashSet::new();
                vars::names_in(node, &mut inner);
                open.extend(inner);
            }
            self.effective.insert(name);
        }
        let nodes = root.iter().filter_map(|(kind, entry)| Some((kind, entry.node.as_table()?)));
        for (kind, nodes) in nodes {
            for (name, node) in nodes.iter().filter_map(|(name, entry)| Some((name, entry.node.as_table()?))) {
                for (wanted, _) in self.set.iter().filter(|(wanted, _)| node.get(wanted).is_some()) {
                    self.options.entry(wanted.clone()).or_insert_with(|| format!("{kind}.{name}.{wanted}"));
                }
            }
        }
    }

    pub fn report(self, vars: &Table, found: &mut Diagnostics) {
        let defined = vars.keys().chain(self.base.iter().map(String::as_str));
        let used: BTreeSet<&str> = defined.filter(|name| self.used.contains(*name)).collect();
        for (name, at) in self.set.iter().filter(|(name, _)| !self.effective.contains(name)) {
            let help = match suggest(name, used.iter().copied()) {
                _ if self.used.contains(name) => {
                    format!("what used \"${{{name}}}\" is overridden: set that key itself")
                }
                Some(near) => format!("did you mean `vars.{near}`?"),
                None => match self.options.get(name) {
                    Some(option) => format!("set the option itself: --set {option}=…"),
                    None => format!("use it in the file as \"${{{name}}}\", or set the option itself"),
                },
            };
            let message = format!("`--set vars.{name}` does nothing: nothing uses this variable");
            found.push(Diagnostic::error("variable-unused", message).at(at.clone()).help(help));
        }
        let unused: Vec<_> = self.defined.into_iter().filter(|(name, _)| !self.used.contains(name)).collect();
        let more = unused.len().saturating_sub(MAX_UNUSED);
        if more > 0 {
            found.push(Diagnostic::warning("variable-unused", format!("{more} more variables are never used")));
        }
        for (name, at) in unused.into_iter().take(MAX_UNUSED) {
            let near = suggest(&name, used.iter().copied());
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use it as \"${{{name}}}\", or remove it"),
            };
            let message = format!("the variable `{name}` is never used");
            found.push(Diagnostic::warning("variable-unused", message).at(at).help(help));
        }
    }
}

/// The entries of `[vars]`.
fn vars_of(table: &Table) -> impl Iterator<Item = (&str, &Entry)> {
    table.get("vars").and_then(Node::as_table).into_iter().flat_map(Table::iter)
}
