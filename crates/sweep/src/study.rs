//! A study and its trials.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::space::{Distribution, Values};

/// Which way a value is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The smaller.
    Minimize,
    /// The larger.
    Maximize,
}

impl Direction {
    /// Optuna's number.
    pub fn number(self) -> u64 {
        match self {
            Direction::Minimize => 1,
            Direction::Maximize => 2,
        }
    }

    /// The value so that the smaller is better.
    pub fn loss(self, value: f64) -> f64 {
        match self {
            Direction::Minimize => value,
            Direction::Maximize => -value,
        }
    }
}

/// How a trial stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Somebody works on it.
    Running,
    /// It has its values.
    Complete,
    /// It was ended early.
    Pruned,
    /// It came to nothing.
    Failed,
    /// Nobody has begun it.
    Waiting,
}

impl State {
    /// Optuna's number.
    pub fn number(self) -> u64 {
        self as u64
    }

    /// The state of Optuna's number.
    pub fn of(number: u64) -> Option<State> {
        [State::Running, State::Complete, State::Pruned, State::Failed, State::Waiting]
            .get(usize::try_from(number).ok()?)
            .copied()
    }

    /// Whether nothing changes any more.
    pub fn is_finished(self) -> bool {
        matches!(self, State::Complete | State::Pruned | State::Failed)
    }
}

/// A trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Its number in the file, by which lines name it.
    pub id: u64,
    /// Its number in the study.
    pub number: u64,
    /// How it stands.
    pub state: State,
    /// What it came to, by objective.
    pub values: Vec<f64>,
    /// The inner values of its parameters.
    pub params: Values,
    /// What values each could have had.
    pub distributions: IndexMap<String, Distribution>,
    /// What it reported.
    pub reports: BTreeMap<i64, f64>,
    /// What users have noted of it.
    pub user: Map<String, Value>,
    /// What samplers and pruners have noted.
    pub system: Map<String, Value>,
}

impl Trial {
    /// A trial that nothing is known of.
    pub fn new(id: u64, number: u64, state: State) -> Trial {
        Trial {
            id,
            number,
            state,
            values: Vec::new(),
            params: Values::new(),
            distributions: IndexMap::new(),
            reports: BTreeMap::new(),
            user: Map::new(),
            system: Map::new(),
        }
    }

    /// The value of a parameter.
    pub fn outer(&self, name: &str) -> Option<Value> {
        Some(self.distributions.get(name)?.outer(*self.params.get(name)?))
    }

    /// By how much it breaks constraints, in all.
    pub fn violation(&self) -> f64 {
        let listed = self.system.get("constraints").and_then(Value::as_array).into_iter().flatten();
        let named = self.system.iter().filter(|(key, _)| key.starts_with(CONSTRAINT)).map(|(_, value)| value);
        listed.chain(named).filter_map(number).filter(|value| *value > 0.0).sum()
    }
}

/// How the name of a constraint begins among a trial's system attributes.
pub const CONSTRAINT: &str = "constraints:";

/// A number, also one that JSON does not have.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

/// A study.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// Its number in the file.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Of each objective, which way it is better.
    pub directions: Vec<Direction>,
    /// Its trials by number.
    pub trials: Vec<Trial>,
    /// What users have noted of it.
    pub user: Map<String, Value>,
}

impl Study {
    /// A study without trials.
    pub fn new(id: u64, name: impl Into<String>, directions: Vec<Direction>) -> Study {
        Study { id, name: name.into(), directions, trials: Vec::new(), user: Map::new() }
    }

    /// The way of the only objective.
    pub fn direction(&self) -> Direction {
        self.directions.first().copied().unwrap_or(Direction::Minimize)
    }

    /// The trials in a state.
    pub fn in_state(&self, state: State) -> impl Iterator<Item = &Trial> {
        self.trials.iter().filter(move |trial| trial.state == state)
    }

    /// The values of a trial so that the smaller is better.
    pub fn losses(&self, trial: &Trial) -> Vec<f64> {
        trial.values.iter().zip(&self.directions).map(|(value, direction)| direction.loss(*value)).collect()
    }

    /// The complete trials that keep to the constraints, the best first; of several objectives, those that no other is better than
    /// in one and as good as in all others come before the rest.
    pub fn ranked(&self) -> Vec<&Trial> {
        let mut left: Vec<&Trial> = self.in_state(State::Complete).filter(|trial| trial.violation() <= 0.0).collect();
        if self.directions.len() < 2 {
            left.sort_by(|a, b| {
                self.losses(a)
                    .iter()
                    .zip(self.losses(b))
                    .map(|(a, b)| a.total_cmp(&b))
                    .find(|o| o.is_ne())
                    .unwrap_or(a.number.cmp(&b.number))
            });
            return left;
        }
        let mut ranked = Vec::new();
        while !left.is_empty() {
            let losses: Vec<Vec<f64>> = left.iter().map(|trial| self.losses(trial)).collect();
            let front = |index: usize| !losses.iter().any(|other| dominates(other, &losses[index]));
            let (first, rest): (Vec<_>, Vec<_>) = left.iter().enumerate().partition(|(index, _)| front(*index));
            ranked.extend(first.into_iter().map(|(_, trial)| *trial));
            left = rest.into_iter().map(|(_, trial)| *trial).collect();
        }
        ranked
    }

    /// The best: one, or with several objectives those that no other is better than.
    pub fn best(&self) -> Vec<&Trial> {
        let ranked = self.ranked();
        if self.directions.len() < 2 {
            return ranked.into_iter().take(1).collect();
        }
        let losses: Vec<Vec<f64>> = ranked.iter().map(|trial| self.losses(trial)).collect();
        let front = |index: usize| !losses.iter().any(|other| dominates(other, &losses[index]));
        ranked.iter().enumerate().filter(|(index, _)| front(*index)).map(|(_, trial)| *trial).collect()
    }
}

/// Whether losses are nowhere larger, and somewhere smaller.
pub(crate) fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b) && a.iter().zip(b).any(|(a, b)| a < b)
}
