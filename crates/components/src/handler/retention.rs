//! Which checkpoints to keep: the latest, and the best by a value measured after they were saved.

use serde::{Deserialize, Serialize};

use crate::monitor::Mode;
use pipe_core::ValueRef;

/// What scores checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    /// The monitored value.
    pub monitor: ValueRef,
    /// Which of its values are better.
    pub mode: Mode,
}

/// A checkpoint in the run's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The name of its folder.
    pub name: String,
    /// The step at which it was made.
    pub step: u64,
    /// The monitored value of the checkpoint, once there is one; never NaN or infinite.
    #[serde(default)]
    pub value: Option<f64>,
    /// Whether it has been scored; without a value when that was not finite.
    #[serde(default)]
    pub judged: bool,
}

/// The checkpoints of a run, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The checkpoints.
    pub saved: Vec<Saved>,
    /// What scored them. Scores by another value are useless.
    #[serde(default)]
    pub judged_by: Option<Judge>,
}

impl Ledger {
    /// Discards all scores when the monitored value changes.
    pub fn judge_by(&mut self, judge: Option<Judge>) {
        if self.judged_by.is_some() && self.judged_by != judge {
            self.saved.iter_mut().for_each(|saved| (saved.value, saved.judged) = (None, false));
        }
        self.judged_by = judge;
    }

    /// Adds the latest checkpoint, in place of one of the same name.
    pub fn add(&mut self, name: &str, step: u64) {
        self.saved.retain(|saved| saved.name != name);
        self.saved.push(Saved { name: name.into(), step, value: None, judged: false });
    }

    /// Gives a value measured at `step` to the latest checkpoint that is not newer, unless it has been scored before: the
    /// first measurement after saving is that of the saved weights.
    pub fn judge(&mut self, value: f64, step: u64) {
        if let Some(saved) = self.saved.iter_mut().rev().find(|saved| saved.step <= step)
            && !saved.judged
        {
            saved.judged = true;
            saved.value = Some(value).filter(|value| value.is_finite());
        }
    }

    /// The scored checkpoints, best first; older first among equals.
    pub fn ranked(&self, mode: Mode) -> Vec<(&Saved, f64)> {
        let mut ranked: Vec<(&Saved, f64)> =
            self.saved.iter().filter_map(|saved| saved.value.map(|value| (saved, value))).collect();
        ranked.sort_by(|(_, a), (_, b)| match mode {
            Mode::Min => a.total_cmp(b),
            Mode::Max => b.total_cmp(a),
        });
        ranked
    }

    /// Names of the checkpoints that are neither among the `keep_last` latest nor among the `best`.
    pub fn surplus(&self, keep_last: usize, best: Option<(Mode, usize)>) -> Vec<String> {
        let best: Vec<&str> = best.map_or_else(Vec::new, |(mode, keep)| {
            self.ranked(mode).into_iter().take(keep).map(|(saved, _)| saved.name.as_str()).collect()
        });
        let older = self.saved.len().saturating_sub(keep_last.max(1));
        let surplus = self.saved[..older].iter().filter(|saved| !best.contains(&saved.name.as_str()));
        surplus.map(|saved| saved.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(steps: &[u64]) -> Ledger {
        let mut ledger = Ledger::default();
        steps.iter().for_each(|step| ledger.add(&format!("step_{step}"), *step));
        ledger
    }

    #[test]
    fn a_value_judges_the_newest_checkpoint_before_it_once() {
        let mut ledger = ledger(&[10, 20]);
        ledger.judge(0.5, 10);
        ledger.judge(0.9, 15);
        ledger.judge(0.7, 25);
        ledger.judge(0.1, 5);
        assert_eq!(ledger.saved.iter().map(|s| s.value).collect::<Vec<_>>(), [Some(0.5), Some(0.7)]);
        ledger.add("step_20", 20);
        assert_eq!(ledger.saved[1].value, None, "new weights have not been measured");
    }

    #[test]
    fn what_is_not_finite_is_never_best() {
        let mut ledger = ledger(&[1, 2, 3]);
        for (value, step) in [(f64::NAN, 1), (2.0, 2), (f64::NEG_INFINITY, 3)] {
            ledger.judge(value, step);
        }
        assert_eq!(ledger.ranked(Mode::Min)[0].0.name, "step_2");
        assert_eq!(ledger.ranked(Mode::Max).len(), 1);
        assert!(ledger.saved[2].judged);
    }

    #[test]
    fn newest_and_best_stay() {
        let mut ledger = ledger(&[1, 2, 3, 4]);
        for (step, value) in [(1, 0.9), (2, 0.2), (3, 0.9)] {
            ledger.judge(value, step);
        }
        assert_eq!(ledger.surplus(1, Some((Mode::Max, 1))), ["step_2", "step_3"], "of equals the older stays");
        assert_eq!(ledger.surplus(1, Some((Mode::Min, 2))), ["step_3"]);
        assert_eq!(ledger.surplus(2, None), ["step_1", "step_2"]);
        assert_eq!(ledger.surplus(0, None).len(), 3, "the latest always stays");
    }
}
