//! A trial whose best report is worse than the median of the complete trials' reports at the same step ends.

use crate::study::{State, Study, Trial};

/// The rule's settings.
#[derive(Debug, Clone)]
pub struct Median {
    /// No trial ends before so many are complete.
    pub startup: usize,
    /// Nor before this step.
    pub warmup: i64,
    /// Trials are looked at once in so many steps.
    pub every: i64,
}

impl Median {
    pub(super) fn prunes(&self, study: &Study, trial: &Trial) -> bool {
        let complete: Vec<&Trial> = study.in_state(State::Complete).collect();
        let Some((step, _)) = trial.reports.last_key_value() else { return false };
        if complete.is_empty() || complete.len() < self.startup || *step < self.warmup || !self.is_due(trial, *step) {
            return false;
        }
        let direction = study.direction();
        let best =
            trial.reports.values().filter(|value| !value.is_nan()).map(|value| direction.loss(*value)).reduce(f64::min);
        let Some(best) = best else { return true };
        let others = complete.iter().filter_map(|trial| trial.reports.get(step)).map(|value| direction.loss(*value));
        let mut others: Vec<f64> = others.filter(|value| !value.is_nan()).collect();
        others.sort_by(f64::total_cmp);
        // Of an even number, what lies in the middle of the two; as percentiles are counted, which for the other way is the same.
        let count = others.len();
        let median = match count {
            0 => return false,
            _ if count % 2 == 1 => others[count / 2],
            _ => others[count / 2 - 1] + (others[count / 2] - others[count / 2 - 1]) * 0.5,
        };
        best > median
    }

    /// Whether this is the first report since the trial was to be looked at last.
    fn is_due(&self, trial: &Trial, step: i64) -> bool {
        let every = self.every.max(1);
        let due = (step - self.warmup) / every * every + self.warmup;
        trial.reports.keys().rev().find(|other| **other != step).copied().unwrap_or(-1) < due
    }
}
