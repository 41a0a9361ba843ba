//! From files to a plan: read, plugins loaded, checked, secrets masked. What touches the disk before anything is built is here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::plugins;
use crate::versions::Versions;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Sources};
use pipe_document::{Document, LoadOptions};
use pipe_plan::Plan;
use pipe_plan::checks::rules;
use pipe_vocab::Catalog;

/// How the origin of a value begins that the command line set.
const SET: &str = "--set";

/// What a pipeline is read from: the file and what the command line changes in it.
#[derive(Debug, Clone)]
pub struct PipelineSource {
    /// The pipeline file.
    pub file: PathBuf,
    /// `--profile NAME`.
    pub profile: Option<String>,
    /// The arguments of each `--set`, in order.
    pub sets: Vec<String>,
    /// The folder that relative paths start from, where that is not the file's own.
    pub base: Option<PathBuf>,
    /// The codes of `--accept`.
    pub accept: Vec<String>,
    /// The texts of its files, where they are not read from the disk.
    pub texts: Option<Arc<BTreeMap<PathBuf, String>>>,
}

/// A pipeline as far as it could be read.
pub struct Loaded {
    /// The texts that were read.
    pub sources: Sources,
    /// The resolved document.
    pub document: Option<Document>,
    /// The components that it may name: those of the program and of the plugins that it loads.
    pub catalog: Rc<Catalog>,
    /// The plan, where there are no errors.
    pub plan: Option<Plan>,
    /// What was found.
    pub diagnostics: Diagnostics,
    /// The files that it was made of.
    pub snapshot: Snapshot,
    /// Time taken for reading and checking.
    pub elapsed: Duration,
}

/// The files that a pipeline was made of, as they were read: two snapshots are equal when nothing was edited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The text of each file, or why it could not be read.
    pub files: BTreeMap<PathBuf, Result<String, io::ErrorKind>>,
    /// Size and time of each library under `[plugins] paths`; nothing where there is no such file.
    pub libraries: BTreeMap<PathBuf, Option<(u64, SystemTime)>>,
}

impl Loaded {
    /// Where the values of the pipeline came from, by key. Of one that a run has kept, whose text says nothing of it: where they came from
    /// there, unless they were set now.
    pub fn origins(&self) -> BTreeMap<String, String> {
        let Some(document) = &self.document else { return BTreeMap::new() };
        let mut origins = document.origins(&self.sources);
        let file = Path::new(self.sources.name(document.main()));
        let run = file.ancestors().skip(1).find(|folder| Versions::of(folder).folder().is_dir());
        if let Some(run) = run.filter(|_| document.is_moved()) {
            let former = Versions::of(run).origins();
            origins.retain(|key, origin| match former.get(key).filter(|_| !origin.starts_with(SET)) {
                Some(former) => {
                    origin.clone_from(former);
                    true
                }
                None => origin.starts_with(SET),
            });
        }
        origins
    }

    /// Refuses a pipeline that a run has kept where a secret is missing in it: it keeps none.
    #[must_use]
    pub fn refusing_missing_secrets(mut self) -> Loaded {
        for place in self.document.iter().flat_map(Document::masks) {
            let message = "this was a secret, and a run keeps none";
            let help =
                "give it with `--set` as '${env:NAME}', which shows it to nobody, or run the pipeline's own file";
            self.diagnostics.push(Diagnostic::error("secret-missing", message).at(place).help(help));
            self.plan = None;
        }
        self
    }
}

impl PipelineSource {
    /// Reads and checks the pipeline.
    pub fn load(&self) -> Loaded {
        self.load_with(&|path| self.text(path))
    }

    fn text(&self, path: &Path) -> io::Result<String> {
        match &self.texts {
            Some(texts) => texts.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into()),
            None => pipe_document::read_file(path),
        }
    }

    /// Reads and checks the pipeline from files that were read before. The time of libraries is looked at anew.
    pub fn load_snapshot(&self, snapshot: &Snapshot) -> Loaded {
        self.load_with(&|path| match snapshot.files.get(path) {
            Some(Ok(text)) => Ok(text.clone()),
            Some(Err(kind)) => Err((*kind).into()),
            None => self.text(path),
        })
    }

    /// Reads the files, without checking them.
    pub fn snapshot(&self) -> Snapshot {
        self.read(&|path| self.text(path)).3
    }

    /// The document as the files have it, whatever `--set` says.
    pub fn without_sets(&self, snapshot: &Snapshot) -> Option<Document> {
        let read = |path: &Path| match snapshot.files.get(path) {
            Some(Ok(text)) => Ok(text.clone()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        PipelineSource { sets: Vec::new(), ..self.clone() }.read(&read).0
    }

    fn load_with(&self, read: &dyn Fn(&Path) -> io::Result<String>) -> Loaded {
        let start = Instant::now();
        let (mut document, mut sources, mut diagnostics, snapshot) = self.read(read);
        let mut plan = None;
        let mut catalog = plugins::catalog().clone();
        if let Some(document) = &mut document {
            diagnostics.merge(plugins::load_from(document, &sources, &mut catalog));
            let (checked, mut found, marks) = Plan::with_marks(document, &sources, &catalog);
            // Beside an error, rules would speak of what is not meant so.
            let only_errors = diagnostics.has_errors();
            found.retain(|one| !(only_errors && rules::is_rule(one.code)));
            diagnostics.merge(found);
            plan = checked.filter(|_| !diagnostics.has_errors());
            if let Some(plan) = &mut plan {
                plan.pipeline.accept.extend(self.accept.iter().cloned());
            }
            for (pointer, value) in marks.typed {
                document.set_value(&pointer, value);
            }
            for secret in marks.secrets {
                document.redact(&secret);
            }
            let plain = diagnostics.iter().filter(|one| one.code == rules::SECRET_IN_FILE);
            for place in plain.filter_map(|one| one.primary.clone()) {
                sources.blot(&place);
            }
            for (place, text) in document.secrets() {
                sources.blot(&place);
                diagnostics.redact(&text);
            }
            for (node, key) in marks.dropped {
                document.remove_option(node.kind.as_str(), &node.name, &key);
            }
        }
        let catalog = Rc::new(catalog);
        Loaded { sources, document, catalog, plan, diagnostics, snapshot, elapsed: start.elapsed() }
    }

    fn read(&self, read: &dyn Fn(&Path) -> io::Result<String>) -> (Option<Document>, Sources, Diagnostics, Snapshot) {
        let mut sources = Sources::new(std::env::current_dir().unwrap_or_default());
        let files = RefCell::new(BTreeMap::new());
        let remembered = |path: &Path| {
            let text = read(path);
            let kept = text.as_ref().map_err(io::Error::kind).cloned();
            files.borrow_mut().insert(path.to_owned(), kept);
            text
        };
        let options = LoadOptions {
            profile: self.profile.clone(),
            sets: self.sets.clone(),
            base: self.base.clone(),
            read: &remembered,
            ..LoadOptions::default()
        };
        let (document, diagnostics) = Document::load(&self.file, &options, &mut sources);
        let libraries =
            document.as_ref().map(|document| plugins::document::paths(document, &sources)).unwrap_or_default();
        let libraries = libraries.into_iter().map(|(path, _)| (path.clone(), stamp(&path))).collect();
        let snapshot = Snapshot { files: files.into_inner(), libraries };
        (document, sources, diagnostics, snapshot)
    }
}

fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
