//! Which trials are ended early, by what they report.
//!
//! - `median`: those that are worse than the others were at the same report
//! - `asha`: those that are not among the best at a rung
//! - [`Verdict`]: what a report comes to

mod asha;
mod median;
mod verdict;

pub use asha::Asha;
pub use median::Median;
pub use verdict::Verdict;

use crate::study::{Study, Trial};

/// Who decides.
#[derive(Debug, Clone)]
pub enum Pruner {
    /// The median rule.
    Median(Median),
    /// Successive halving.
    Asha(Asha),
}

impl Pruner {
    /// Looks at a trial's latest report, which the study has already.
    pub fn judge(&mut self, study: &Study, trial: &Trial) -> Verdict {
        match self {
            Pruner::Median(rule) => Verdict { prune: rule.prunes(study, trial), notes: Vec::new() },
            Pruner::Asha(rule) => rule.judge(study, trial),
        }
    }
}
