//! Which checkpoints to keep: the latest, anchors, and the best by values measured after they were saved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::monitor::Mode;

/// A checkpoint in the run's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The name of its folder.
    pub name: String,
    /// The step at which it was made.
    pub step: u64,
    /// Monitored values of the checkpoint, once there are some: nothing for one that is NaN or infinite.
    #[serde(default)]
    pub scores: BTreeMap<String, Option<f64>>,
    /// Whether it is kept for ever.
    #[serde(default)]
    pub anchor: bool,
}

/// How to rank checkpoints, and how many of the best to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    /// The monitored value.
    pub monitor: String,
    /// Which of its values are better.
    pub mode: Mode,
    /// How many to keep.
    pub keep: usize,
}

/// The checkpoints of a handler, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The checkpoints.
    pub saved: Vec<Saved>,
}

impl Ledger {
    /// Adds the latest checkpoint, in place of one of the same name; the first in each stretch of `every` steps is an anchor.
    pub fn add(&mut self, name: &str, step: u64, every: Option<u64>) {
        self.saved.retain(|saved| saved.name != name);
        let first_of = |every: u64| !self.saved.iter().any(|saved| saved.anchor && saved.step / every == step / every);
        let anchor = every.is_some_and(first_of);
        self.saved.push(Saved { name: name.into(), step, scores: BTreeMap::new(), anchor });
    }

    /// Gives a value measured at `step` to the latest checkpoint that is not newer, unless it has one already: the first
    /// measurement after saving is that of the saved weights.
    pub fn judge(&mut self, monitor: &str, value: f64, step: u64) {
        if let Some(saved) = self.saved.iter_mut().rev().find(|saved| saved.step <= step) {
            saved.scores.entry(monitor.to_owned()).or_insert(Some(value).filter(|value| value.is_finite()));
        }
    }

    /// The scored checkpoints, best first; older first among equals.
    pub fn ranked(&self, judge: &Judge) -> Vec<(&Saved, f64)> {
        let score = |saved: &Saved| saved.scores.get(&judge.monitor).copied().flatten();
        let mut ranked: Vec<(&Saved, f64)> =
            self.saved.iter().filter_map(|saved| score(saved).map(|value| (saved, value))).collect();
        ranked.sort_by(|(_, a), (_, b)| match judge.mode {
            Mode::Min => a.total_cmp(b),
            Mode::Max => b.total_cmp(a),
        });
        ranked
    }

    /// Names of the checkpoints that are neither anchors nor among the `keep_last` latest or the best.
    pub fn surplus(&self, keep_last: usize, judges: &[Judge]) -> Vec<String> {
        let best = judges.iter().flat_map(|judge| self.ranked(judge).into_iter().take(judge.keep));
        let best: Vec<&str> = best.map(|(saved, _)| saved.name.as_str()).collect();
        let older = self.saved.len().saturating_sub(keep_last.max(1));
        let kept = |saved: &&Saved| saved.anchor || best.contains(&saved.name.as_str());
        self.saved[..older].iter().filter(|saved| !kept(saved)).map(|saved| saved.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(steps: &[u64]) -> Ledger {
        let mut ledger = Ledger::default();
        steps.iter().for_each(|step| ledger.add(&format!("step_{step}"), *step, None));
        ledger
    }

    fn by(monitor: &str, mode: Mode, keep: usize) -> Judge {
        Judge { monitor: monitor.into(), mode, keep }
    }

    #[test]
    fn a_value_judges_the_newest_checkpoint_before_it_once() {
        let mut ledger = ledger(&[10, 20]);
        for (value, step) in [(0.5, 10), (0.9, 15), (0.7, 25), (0.1, 5)] {
            ledger.judge("m", value, step);
        }
        let scores: Vec<_> = ledger.saved.iter().map(|saved| saved.scores["m"]).collect();
        assert_eq!(scores, [Some(0.5), Some(0.7)]);
        ledger.add("step_20", 20, None);
        assert!(ledger.saved[1].scores.is_empty(), "new weights have not been measured");
    }

    #[test]
    fn what_is_not_finite_is_never_best() {
        let mut ledger = ledger(&[1, 2, 3]);
        for (value, step) in [(f64::NAN, 1), (2.0, 2), (f64::NEG_INFINITY, 3)] {
            ledger.judge("m", value, step);
        }
        assert_eq!(ledger.ranked(&by("m", Mode::Min, 1))[0].0.name, "step_2");
        assert_eq!(ledger.ranked(&by("m", Mode::Max, 1)).len(), 1);
        ledger.judge("m", 1.0, 3);
        assert_eq!(ledger.saved[2].scores["m"], None, "it has been measured");
    }

    #[test]
    fn newest_and_best_stay() {
        let mut ledger = ledger(&[1, 2, 3, 4]);
        for (step, value) in [(1, 0.9), (2, 0.2), (3, 0.9)] {
            ledger.judge("m", value, step);
            ledger.judge("n", step as f64, step);
        }
        let best = |mode, keep| vec![by("m", mode, keep)];
        assert_eq!(ledger.surplus(1, &best(Mode::Max, 1)), ["step_2", "step_3"], "of equals the older stays");
        assert_eq!(ledger.surplus(1, &best(Mode::Min, 2)), ["step_3"]);
        assert_eq!(ledger.surplus(2, &[]), ["step_1", "step_2"]);
        assert_eq!(ledger.surplus(0, &[]).len(), 3, "the latest always stays");
        assert_eq!(ledger.surplus(1, &[by("m", Mode::Max, 1), by("n", Mode::Max, 1)]), ["step_2"], "each has its best");
    }

    #[test]
    fn the_first_of_each_stretch_is_an_anchor() {
        let mut ledger = Ledger::default();
        for step in [4, 8, 12, 16, 20, 24] {
            ledger.add(&format!("step_{step}"), step, Some(10));
        }
        let anchors: Vec<u64> = ledger.saved.iter().filter(|saved| saved.anchor).map(|saved| saved.step).collect();
        assert_eq!(anchors, [4, 12, 20]);
        assert_eq!(ledger.surplus(1, &[]), ["step_8", "step_16"]);
    }
}
