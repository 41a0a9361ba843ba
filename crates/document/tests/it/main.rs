//! Documents: what is wrong with them and how that is told, what they resolve to, and that no text breaks them.

mod fuzz;
mod mistakes;
mod resolved;

use std::collections::HashMap;
use std::io;
use std::path::Path;

use pipe_document::{Document, LoadOptions, PathSegment};
use pipe_document::{diagnostic::Diagnostics, diagnostic::Sources};

/// A disk, a command line and an environment in memory.
#[derive(Default)]
struct World {
    files: HashMap<String, String>,
    env: HashMap<String, String>,
    profile: Option<String>,
    sets: Vec<String>,
}

impl World {
    /// A world with one file, `p.toml`.
    fn new(text: &str) -> Self {
        Self::default().file("p.toml", text)
    }

    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn profile(mut self, name: &str) -> Self {
        self.profile = Some(name.to_owned());
        self
    }

    fn set(mut self, text: &str) -> Self {
        self.sets.push(text.to_owned());
        self
    }

    /// Loads `p.toml`.
    fn load(&self) -> (Option<Document>, Diagnostics, Sources) {
        let read = |path: &Path| {
            let text = self.files.get(&path.display().to_string());
            text.cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        };
        let options = LoadOptions {
            profile: self.profile.clone(),
            sets: self.sets.clone(),
            base: None,
            env: &|name| self.env.get(name).cloned(),
            read: &read,
        };
        let mut sources = Sources::default();
        let (document, found) = Document::load(Path::new("p.toml"), &options, &mut sources);
        (document, found, sources)
    }

    /// What the user sees of what is wrong.
    fn mistakes(&self) -> String {
        let (_, found, sources) = self.load();
        found.render_text(&sources, false)
    }

    /// The document, which must be without fault.
    #[track_caller]
    fn document(&self) -> (Document, Sources) {
        let (document, found, sources) = self.load();
        assert!(found.is_empty(), "{}", found.render_text(&sources, false));
        (document.expect("the file is there"), sources)
    }
}

/// The steps of a path such as `/steps/0/size`.
fn parse_pointer(pointer: &str) -> Vec<PathSegment> {
    pointer.split('/').skip(1).map(PathSegment::from).collect()
}
