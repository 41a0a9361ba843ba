//! What a rule is, and what it finds.

use pipe_document::diagnostic::{Diagnostic, Location, Severity};

use super::view::View;

/// When a rule can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// With the graph alone.
    Graph,
    /// With the graph, and in more cases with the data.
    Both,
    /// With the data.
    Data,
}

impl Phase {
    /// What it needs: `graph`, `graph, data` or `data`.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Graph => "graph",
            Phase::Both => "graph, data",
            Phase::Data => "data",
        }
    }
}

/// A rule: what a pipeline had better not do.
pub struct Rule {
    /// Its name, the code of its findings.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// When it can be decided.
    pub phase: Phase,
    /// What it finds, in one line.
    pub about: &'static str,
    /// Why that matters.
    pub why: &'static str,
    pub(super) check: fn(&View<'_>, &mut Findings),
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What a rule finds.
pub(crate) struct Findings {
    pub rule: &'static Rule,
    pub found: Vec<Diagnostic>,
}

impl Findings {
    /// Says that the rule is broken by the pipeline as a whole.
    pub fn add_anywhere(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.found.push(Diagnostic::warning(self.rule.name, message).help(help));
    }

    /// Says that the rule is broken there; the caller may add labels or make it an error.
    pub fn add(&mut self, at: Location, message: impl Into<String>, help: impl Into<String>) -> &mut Diagnostic {
        let severity = self.rule.severity;
        let diagnostic = match severity {
            Severity::Error => Diagnostic::error(self.rule.name, message),
            Severity::Warning => Diagnostic::warning(self.rule.name, message),
        };
        let index = self.found.len();
        self.found.push(diagnostic.at(at).help(help));
        &mut self.found[index]
    }
}
