//! One finding, as data; how it is shown is in `render.rs`.

use super::Location;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The pipeline cannot run.
    Error,
    /// The pipeline can run, and probably not as meant.
    Warning,
}

impl Severity {
    /// The lower-case word that users and tools see: `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One finding: what is wrong, where, and what to do.
///
/// ```
/// use pipe_document::diagnostic::{Diagnostic, Location, Sources};
///
/// let mut sources = Sources::default();
/// let file = sources.add_file("a.toml", "lr = 0.1\nlr = 0.2\n");
/// let found = Diagnostic::error("duplicate-key", "the key `lr` is set twice")
///     .at(Location::new(file, 9..11))
///     .label(Location::new(file, 0..2), "first set here")
///     .help("remove one of the two");
/// assert_eq!(found.code, "duplicate-key");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// A stable kebab-case name of the kind of finding, such as `unknown-key`.
    pub code: &'static str,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// The text at fault.
    pub primary: Option<Location>,
    /// Other places that matter, each with a few words.
    pub labels: Vec<(Location, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding that stops the pipeline.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A finding that does not stop the pipeline.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Self { severity, code, message: message.into(), primary: None, labels: Vec::new(), help: None }
    }

    /// Points at the text at fault.
    pub fn at(mut self, location: Location) -> Self {
        self.primary = Some(location);
        self
    }

    /// Points at another place that matters, with a few words about it.
    pub fn label(mut self, location: Location, text: impl Into<String>) -> Self {
        self.labels.push((location, text.into()));
        self
    }

    /// Says what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says what to do, where there is something to say.
    pub fn maybe_help(mut self, help: Option<impl Into<String>>) -> Self {
        if let Some(help) = help {
            self.help = Some(help.into());
        }
        self
    }

    /// Whether this finding stops the pipeline.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
