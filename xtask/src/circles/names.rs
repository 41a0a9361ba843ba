//! What a path in the code means: the module that really defines it, through `use`, `pub use` and `*`.

use super::tree::{Definition, Import, Module, Tree};

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Module(usize),
    /// Something that this module defines.
    Item(usize),
}

/// Questions at work, so that modules that import from each other end.
type Asked = Vec<(usize, String, bool)>;

impl Tree {
    /// What a path means in a module; `None` for other crates' and for what is not known.
    pub(crate) fn resolve(&self, from: usize, path: &[String]) -> Option<Found> {
        self.walk(from, path, &mut Vec::new())
    }

    fn walk(&self, from: usize, path: &[String], asked: &mut Asked) -> Option<Found> {
        let (mut found, mut rest) = self.start(from, path, asked)?;
        while let (Found::Module(module), Some((name, after))) = (found, rest.split_first()) {
            // A name that a macro makes: it stands in the module all the same.
            found = match self.lookup(module, name, !after.is_empty(), from, asked) {
                Answer::Here(found) => found,
                Answer::Elsewhere => return None,
                Answer::Unknown => Found::Item(module),
            };
            rest = after;
        }
        Some(found)
    }

    /// The first steps of a path, up to something that stands in this crate.
    fn start<'p>(&self, from: usize, path: &'p [String], asked: &mut Asked) -> Option<(Found, &'p [String])> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some((Found::Module(0), rest)),
            "self" => Some((Found::Module(from), rest)),
            "super" => {
                let supers = path.iter().take_while(|name| *name == "super").count();
                let module = (0..supers).try_fold(from, |module, _| self.modules[module].parent)?;
                Some((Found::Module(module), &path[supers..]))
            }
            name => match self.lookup(from, name, !rest.is_empty(), from, asked) {
                Answer::Here(found) => Some((found, rest)),
                Answer::Elsewhere | Answer::Unknown => None,
            },
        }
    }

    /// A name in a module: what stands there, then what `use` brings in, then what comes with `*`.
    ///
    /// A module and a function may share a name, also one that is handed on (`pub use area::area`): where the path
    /// goes on it is the module.
    fn lookup(&self, module: usize, name: &str, goes_on: bool, viewer: usize, asked: &mut Asked) -> Answer {
        let question = (module, name.to_owned(), goes_on);
        if asked.contains(&question) {
            return Answer::Unknown;
        }
        let child = self.modules[module].children.get(name).map(|child| Answer::Here(Found::Module(*child)));
        if goes_on && let Some(child) = child {
            return child;
        }
        if let Some(item) = self.modules[module].items.get(name) {
            return Answer::Here(Found::Item(item.module));
        }
        asked.push(question);
        let answer = self.brought_in(module, name, goes_on, viewer, asked);
        asked.pop();
        match (answer, child) {
            (Answer::Unknown, Some(child)) => child,
            (answer, _) => answer,
        }
    }

    fn brought_in(&self, module: usize, name: &str, goes_on: bool, viewer: usize, asked: &mut Asked) -> Answer {
        let here = &self.modules[module];
        let mut answer = Answer::Unknown;
        for import in here.imports.get(name).into_iter().flatten() {
            match self.walk(module, &import.path, asked) {
                Some(found) => return Answer::Here(found),
                // `use some_macro;`, where the macro is known by its place in the text.
                None if import.path == [name] && self.macros.contains_key(name) => {
                    return Answer::Here(Found::Item(self.macros[name]));
                }
                None => answer = Answer::Elsewhere,
            }
        }
        if matches!(answer, Answer::Unknown) {
            let mut globs = here.globs.iter();
            if let Some(found) = globs.find_map(|glob| self.through_glob(module, glob, name, goes_on, viewer, asked)) {
                answer = Answer::Here(found);
            }
        }
        answer
    }

    fn through_glob(
        &self,
        here: usize,
        glob: &Import,
        name: &str,
        goes_on: bool,
        viewer: usize,
        asked: &mut Asked,
    ) -> Option<Found> {
        if !glob.public && !self.is_within(viewer, here) {
            return None;
        }
        let Some(Found::Module(target)) = self.walk(here, &glob.path, asked) else { return None };
        if !self.lets_through(target, name, here) {
            return None;
        }
        match self.lookup(target, name, goes_on, here, asked) {
            Answer::Here(found) => Some(found),
            Answer::Elsewhere | Answer::Unknown => None,
        }
    }

    /// Whether `*` brings a name of a module to the viewer: private ones are seen from within only.
    fn lets_through(&self, module: usize, name: &str, viewer: usize) -> bool {
        let Module { items, imports, .. } = &self.modules[module];
        self.is_within(viewer, module)
            || items.get(name).is_none_or(|Definition { public, .. }| *public)
                && imports.get(name).is_none_or(|all| all.iter().any(|import| import.public))
    }
}

#[derive(Clone, Copy)]
enum Answer {
    Here(Found),
    /// Brought in from another crate.
    Elsewhere,
    Unknown,
}
