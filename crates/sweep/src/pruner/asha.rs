//! Asynchronous successive halving: rungs at `first`, `first * factor`, `first * factor²`, … steps. A trial that comes to one goes on if it
//! is among the best of those that have been there, one in `factor`.

use super::verdict::Verdict;
use crate::study::{Direction, State, Study, Trial, number};

/// The rule's settings.
#[derive(Debug, Clone)]
pub struct Asha {
    /// The step of the lowest rung; a hundredth of the longest complete trial's when it is not said, and then as soon as there is one.
    pub first: Option<i64>,
    /// One of so many goes on.
    pub factor: i64,
    /// So many rungs are left out at the beginning.
    pub skip: u32,
    /// No trial goes on before so many others have come to the rung.
    pub bootstrap: usize,
}

/// Of a rung, the name under which a trial's value there is noted: Optuna's.
fn key(rung: u32) -> String {
    format!("completed_rung_{rung}")
}

impl Asha {
    pub(super) fn judge(&mut self, study: &Study, trial: &Trial) -> Verdict {
        let mut verdict = Verdict::default();
        let Some((step, value)) = trial.reports.last_key_value() else { return verdict };
        let longest =
            study.in_state(State::Complete).filter_map(|trial| Some(*trial.reports.last_key_value()?.0)).max();
        // Once known, it stays.
        self.first = self.first.or_else(|| longest.map(|longest| (longest / 100).max(1)));
        let Some(first) = self.first else { return verdict };
        let done = (0..).find(|rung| !trial.system.contains_key(&key(*rung))).unwrap_or_default();
        for rung in done.. {
            let height =
                self.factor.checked_pow(self.skip.saturating_add(rung)).and_then(|factor| factor.checked_mul(first));
            if height.is_none_or(|height| *step < height) {
                return verdict;
            }
            verdict.prune = true;
            if value.is_nan() {
                return verdict;
            }
            let key = key(rung);
            let mut all: Vec<f64> = study.trials.iter().filter_map(|trial| number(trial.system.get(&key)?)).collect();
            all.push(*value);
            verdict.notes.push((key, *value));
            if all.len() <= self.bootstrap || !self.goes_on(*value, all, study.direction()) {
                return verdict;
            }
            verdict.prune = false;
        }
        verdict
    }

    fn goes_on(&self, value: f64, all: Vec<f64>, direction: Direction) -> bool {
        let mut losses: Vec<f64> = all.iter().map(|value| direction.loss(*value)).collect();
        losses.sort_by(f64::total_cmp);
        // Of the first few the best goes on.
        let last = (losses.len() / usize::try_from(self.factor).unwrap_or(1).max(1)).max(1) - 1;
        direction.loss(value) <= losses[last]
    }
}
