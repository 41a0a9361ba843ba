//! The values of parameters.
//!
//! As in Optuna, a value has an inner form, a number: of a choice its index, of all others the value itself.

use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use serde_json::{Value, json};

/// The inner values of a trial's parameters, by name.
pub type Values = IndexMap<String, f64>;

/// The values that a parameter can have.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// A number.
    Float {
        /// The smallest.
        low: f64,
        /// The largest.
        high: f64,
        /// Whether its logarithm is what is even.
        log: bool,
        /// The distance between two values; none where all between are meant.
        step: Option<f64>,
    },
    /// An integer.
    Int {
        /// The smallest.
        low: i64,
        /// The largest.
        high: i64,
        /// Whether its logarithm is what is even.
        log: bool,
        /// The distance between two values.
        step: i64,
    },
    /// One of several.
    Categorical {
        /// All there are.
        choices: Vec<Value>,
    },
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its values.
    pub distribution: Distribution,
    /// It is there only where each of these has one of the values.
    pub when: Vec<(String, Vec<Value>)>,
}

/// Parameters; one that depends on another comes after it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Space {
    /// In order.
    pub parameters: Vec<Parameter>,
}

/// Whether two plain values are the same: 1 and 1.0 are.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

impl Distribution {
    /// The value that an inner one stands for.
    pub fn outer(&self, inner: f64) -> Value {
        match self {
            Distribution::Float { .. } => json!(inner),
            Distribution::Int { .. } => json!(inner.round() as i64),
            Distribution::Categorical { choices } => choices.get(inner as usize).cloned().unwrap_or_default(),
        }
    }

    /// The inner form of a value; none of one that it cannot have.
    pub fn inner(&self, outer: &Value) -> Option<f64> {
        match self {
            Distribution::Float { low, high, .. } => outer.as_f64().filter(|value| (*low..=*high).contains(value)),
            Distribution::Int { low, high, .. } => {
                let value = outer
                    .as_i64()
                    .or_else(|| outer.as_f64().filter(|value| value.fract() == 0.0).map(|value| value as i64));
                value.filter(|value| (*low..=*high).contains(value)).map(|value| value as f64)
            }
            Distribution::Categorical { choices } => {
                choices.iter().position(|choice| same(choice, outer)).map(|at| at as f64)
            }
        }
    }

    /// Whether there are values, and their ends can be computed with.
    pub fn is_sound(&self) -> bool {
        const LARGEST: f64 = (1u64 << 53) as f64;
        let (low, high, log, step) = match self {
            Distribution::Categorical { choices } => return !choices.is_empty(),
            Distribution::Float { low, high, log, step } => (*low, *high, *log, step.unwrap_or(1.0)),
            Distribution::Int { low, high, log, step } => {
                let ends = (*low as f64, *high as f64);
                if ends.0.abs() > LARGEST || ends.1.abs() > LARGEST || *log && *low < 1 {
                    return false;
                }
                (ends.0, ends.1, *log, *step as f64)
            }
        };
        low <= high && (high - low).is_finite() && step > 0.0 && step.is_finite() && (!log || low > 0.0)
    }

    /// Its only value, where it has no other.
    pub fn single(&self) -> Option<f64> {
        match self {
            Distribution::Float { low, high, step, .. } => {
                (low == high || step.is_some_and(|step| high - low < step)).then_some(*low)
            }
            Distribution::Int { low, high, step, log } => {
                (low == high || !log && high - low < *step).then_some(*low as f64)
            }
            Distribution::Categorical { choices } => (choices.len() == 1).then_some(0.0),
        }
    }

    /// Its inner values, where there are finitely many.
    pub fn all(&self) -> Option<Vec<f64>> {
        let steps = |low: f64, high: f64, step: f64| {
            let count = ((high - low) / step + 1e-9).floor() as u64;
            // Counted from the beginning, so that no error grows.
            (0..=count).map(|index| low + index as f64 * step).collect()
        };
        match self {
            Distribution::Float { low, high, step: Some(step), .. } => Some(steps(*low, *high, *step)),
            Distribution::Float { .. } => self.single().map(|only| vec![only]),
            Distribution::Int { low, high, step, .. } => Some(steps(*low as f64, *high as f64, *step as f64)),
            Distribution::Categorical { choices } => Some((0..choices.len()).map(|index| index as f64).collect()),
        }
    }

    /// Its values at the ends, or all choices, which is what is tried of it before the first trial.
    pub fn extremes(&self) -> Vec<f64> {
        let mut ends = match self {
            Distribution::Float { low, high, .. } => vec![*low, *high],
            Distribution::Int { low, high, .. } => vec![*low as f64, *high as f64],
            Distribution::Categorical { .. } => self.all().unwrap_or_default(),
        };
        ends.dedup();
        ends
    }

    /// Whether one study can have both: Optuna asks for the same kind, of choices for the same choices.
    pub fn is_compatible(&self, other: &Distribution) -> bool {
        match (self, other) {
            (Distribution::Categorical { choices }, Distribution::Categorical { choices: others }) => {
                choices.len() == others.len() && choices.iter().zip(others).all(|(a, b)| same(a, b))
            }
            (Distribution::Float { log, .. }, Distribution::Float { log: other, .. })
            | (Distribution::Int { log, .. }, Distribution::Int { log: other, .. }) => log == other,
            _ => false,
        }
    }

    /// As Optuna writes it: JSON in a string.
    pub fn to_json(&self) -> String {
        let (name, attributes) = match self {
            Distribution::Float { low, high, log, step } => {
                ("FloatDistribution", json!({ "step": step, "low": low, "high": high, "log": log }))
            }
            Distribution::Int { low, high, log, step } => {
                ("IntDistribution", json!({ "log": log, "step": step, "low": low, "high": high }))
            }
            Distribution::Categorical { choices } => ("CategoricalDistribution", json!({ "choices": choices })),
        };
        json!({ "name": name, "attributes": attributes }).to_string()
    }

    /// What Optuna has written.
    ///
    /// # Errors
    /// When it is of a kind that is not known, or not whole.
    pub fn from_json(text: &str) -> Result<Distribution> {
        let value: Value = serde_json::from_str(text).with_context(|| format!("no distribution: {text}"))?;
        let attributes = &value["attributes"];
        let number = |key: &str| attributes[key].as_f64().with_context(|| format!("`{key}` is missing in {text}"));
        let integer = |key: &str| attributes[key].as_i64().with_context(|| format!("`{key}` is missing in {text}"));
        let log = attributes["log"].as_bool().unwrap_or_default();
        Ok(match value["name"].as_str().unwrap_or_default() {
            "FloatDistribution" => Distribution::Float {
                low: number("low")?,
                high: number("high")?,
                log,
                step: attributes["step"].as_f64(),
            },
            "IntDistribution" => {
                let step = attributes["step"].as_i64().unwrap_or(1);
                ensure!(step > 0, "a step of {step} in {text}");
                Distribution::Int { low: integer("low")?, high: integer("high")?, log, step }
            }
            "CategoricalDistribution" => {
                let choices = attributes["choices"].as_array().with_context(|| format!("no choices in {text}"))?;
                Distribution::Categorical { choices: choices.clone() }
            }
            other => bail!("a parameter's values are of the kind `{other}`, which only older versions of Optuna write"),
        })
    }
}

impl Space {
    /// The parameter of a name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// Whether a parameter is there beside these values.
    pub fn is_active(&self, parameter: &Parameter, values: &Values) -> bool {
        parameter.when.iter().all(|(name, wanted)| {
            let value = values.get(name).zip(self.get(name)).map(|(inner, other)| other.distribution.outer(*inner));
            value.is_some_and(|value| wanted.iter().any(|one| same(one, &value)))
        })
    }

    /// Gives each parameter that is there the value that `choose` has for it, one after the other.
    pub fn fill(&self, mut choose: impl FnMut(&Parameter) -> f64) -> Values {
        let mut values = Values::new();
        for parameter in &self.parameters {
            if self.is_active(parameter, &values) {
                let value = choose(parameter);
                values.insert(parameter.name.clone(), value);
            }
        }
        values
    }
}
