//! Lines of Optuna's journal: what is done, as JSON.
//!
//! Python writes `NaN` and `Infinity` as they are, which JSON does not have: read, they become texts.

use std::fmt::Write;

use anyhow::{Context, Result};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::space::{Distribution, Values};
use crate::study::{Direction, State};

/// Something done to a study.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// A study is begun.
    CreateStudy {
        /// Its name.
        name: String,
        /// Of each objective, which way it is better.
        directions: Vec<Direction>,
    },
    /// Something is noted of a study.
    StudyUser {
        /// The study.
        study: u64,
        /// The name of the note.
        key: String,
        /// The note.
        value: Value,
    },
    /// A trial is begun, with all its parameters.
    CreateTrial {
        /// The study.
        study: u64,
        /// The inner values of its parameters.
        params: Values,
        /// What values they can have.
        distributions: IndexMap<String, Distribution>,
        /// What is noted of it.
        user: Map<String, Value>,
    },
    /// A waiting trial gets a parameter.
    Param {
        /// The trial.
        trial: u64,
        /// The name.
        name: String,
        /// The inner value.
        value: f64,
        /// What values it can have.
        distribution: Distribution,
    },
    /// A trial stands otherwise.
    State {
        /// The trial.
        trial: u64,
        /// How.
        state: State,
        /// What it came to.
        values: Option<Vec<f64>>,
    },
    /// A trial reports.
    Report {
        /// The trial.
        trial: u64,
        /// Where it is.
        step: i64,
        /// The value.
        value: f64,
    },
    /// Something is noted of a trial.
    User {
        /// The trial.
        trial: u64,
        /// The name of the note.
        key: String,
        /// The note.
        value: Value,
    },
    /// A sampler or pruner notes something of a trial.
    System {
        /// The trial.
        trial: u64,
        /// The name of the note.
        key: String,
        /// The note.
        value: f64,
    },
}

impl Operation {
    /// Its line, with the end of it.
    pub(super) fn line(&self, worker: &str) -> String {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string();
        let (code, mut fields) = match self {
            Operation::CreateStudy { name, directions } => {
                let directions: Vec<u64> = directions.iter().map(|direction| direction.number()).collect();
                (0, json!({ "study_name": name, "directions": directions }))
            }
            Operation::StudyUser { study, key, value } => {
                (2, json!({ "study_id": study, "user_attr": { key: value } }))
            }
            Operation::CreateTrial { study, params, distributions, user } => {
                let written: Map<String, Value> =
                    distributions.iter().map(|(name, one)| (name.clone(), one.to_json().into())).collect();
                let fields = json!({
                    "study_id": study, "datetime_start": now, "state": State::Running.number(), "value": null, "values": null,
                    "distributions": written, "params": params, "user_attrs": user, "system_attrs": {},
                    "intermediate_values": {},
                });
                (4, fields)
            }
            Operation::Param { trial, name, value, distribution } => {
                let (name, distribution) = (name.as_str(), distribution.to_json());
                (
                    5,
                    json!({ "trial_id": trial, "param_name": name, "param_value_internal": value, "distribution": distribution }),
                )
            }
            Operation::State { trial, state, values } => {
                let time = if *state == State::Running { "datetime_start" } else { "datetime_complete" };
                let values =
                    values.as_ref().map(|values| values.iter().map(|value| finite(*value)).collect::<Vec<_>>());
                (6, json!({ "trial_id": trial, "state": state.number(), "values": values, time: now }))
            }
            Operation::Report { trial, step, value } => {
                (7, json!({ "trial_id": trial, "step": step, "intermediate_value": finite(*value) }))
            }
            Operation::User { trial, key, value } => (8, json!({ "trial_id": trial, "user_attr": { key: value } })),
            Operation::System { trial, key, value } => {
                (9, json!({ "trial_id": trial, "system_attr": { key: finite(*value) } }))
            }
        };
        if let Some(fields) = fields.as_object_mut() {
            fields.shift_insert(0, "op_code".into(), code.into());
            fields.shift_insert(1, "worker_id".into(), worker.into());
        }
        let mut line = fields.to_string();
        for (text, bare) in [(NAN, "NaN"), (INFINITY, "Infinity"), (MINUS_INFINITY, "-Infinity")] {
            if line.contains(text) {
                line = line.replace(text, bare);
            }
        }
        line + "\n"
    }
}

/// What stands for numbers that JSON does not have until the line is written; no text of anyone's has such characters unescaped.
const NAN: &str = "\"\u{fdd0}NaN\"";
const INFINITY: &str = "\"\u{fdd0}Infinity\"";
const MINUS_INFINITY: &str = "\"\u{fdd0}-Infinity\"";

fn finite(value: f64) -> Value {
    let bare = |text: &str| Value::from(text.trim_matches('"'));
    match value {
        value if value.is_nan() => bare(NAN),
        f64::INFINITY => bare(INFINITY),
        f64::NEG_INFINITY => bare(MINUS_INFINITY),
        value => json!(value),
    }
}

/// Reads a line as Python wrote it.
pub(super) fn parse(line: &str) -> Result<Value> {
    if let Ok(value) = serde_json::from_str(line) {
        return Ok(value);
    }
    serde_json::from_str(&quoted(line)).with_context(|| {
        let start: String = line.chars().take(80).collect();
        format!("this is no line of a journal: {start}")
    })
}

/// The line with `NaN`, `Infinity` and `-Infinity` in quotes, where they are no part of a text.
fn quoted(line: &str) -> String {
    let (mut text, mut rest) = (String::with_capacity(line.len() + 16), line);
    let mut inside = false;
    while let Some(first) = rest.chars().next() {
        let word = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| !inside && rest.starts_with(word));
        let length = match (word, first) {
            (Some(word), _) => {
                let _ = write!(text, "\"{word}\"");
                rest = &rest[word.len()..];
                continue;
            }
            (None, '\\') if inside => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, '"') => {
                inside = !inside;
                1
            }
            (None, first) => first.len_utf8(),
        };
        text.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::number;

    #[test]
    fn what_json_does_not_have_is_written_as_python_does_and_read_again() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1, -3e-300] {
            let line = Operation::Report { trial: 3, step: 1, value }.line("w");
            let read = parse(line.trim_end()).unwrap();
            let back = number(&read["intermediate_value"]).unwrap();
            assert!(back == value || back.is_nan() && value.is_nan(), "{line}");
        }
        assert!(Operation::Report { trial: 3, step: 1, value: f64::NAN }.line("w").contains(":NaN}"));
        let odd = r#"{"a": "NaN \" Infinity", "b": [NaN, -Infinity], "NaN": "\\"}"#;
        let read = parse(odd).unwrap();
        assert_eq!(read, json!({ "a": "NaN \" Infinity", "b": ["NaN", "-Infinity"], "NaN": "\\" }));
        assert!(parse("{\"a\": N").is_err());
    }
}
