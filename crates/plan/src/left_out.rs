//! What is said of values that a metric leaves out.

use pipe_document::diagnostic::{Diagnostic, Location};
use pipe_vocab::NodeId;

/// Values that a metric does not measure, as nothing gives what they are measured of.
pub(super) struct LeftOut {
    pub metric: NodeId,
    /// What their names begin with.
    pub begin: String,
    pub model: NodeId,
    pub field: String,
    /// Where the metric is joined to the engine.
    pub location: Location,
}

impl LeftOut {
    pub fn has(&self, value: &str) -> bool {
        value.starts_with(&self.begin)
    }

    fn reason(&self) -> String {
        format!("`{}` gives no `{}`", self.model, self.field)
    }

    pub fn warning(&self) -> Diagnostic {
        let message = format!("`{}` leaves out `{}…`: {}", self.metric, self.begin, self.reason());
        let help = "its other values are measured";
        Diagnostic::warning("values-left-out", message).at(self.location.clone()).help(help)
    }

    /// What is said to who cannot do without such a value; of `values`, the metric's, one that is like it is named.
    pub fn refusal(&self, value: &str, values: &[String], at: &Location) -> Diagnostic {
        let message = format!("`{}` does not measure `{value}` here: {}", self.metric, self.reason());
        let kind = &value[self.begin.len()..];
        let like = values.iter().find(|other| !self.has(other) && other.ends_with(kind));
        let help = like.map(|other| format!("use `{}:{other}`", self.metric));
        Diagnostic::error("unknown-value", message).at(at.clone()).maybe_help(help)
    }
}
