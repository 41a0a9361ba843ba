//! What a report comes to.

/// What a report comes to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Whether the trial is to end.
    pub prune: bool,
    /// What is to be noted of it, by name.
    pub notes: Vec<(String, f64)>,
}
