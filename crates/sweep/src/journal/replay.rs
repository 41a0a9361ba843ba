//! What the lines of a journal come to, one after the other. A line that comes too late does nothing, as in Optuna: the first who ends a trial
//! has ended it.

use std::fmt::Display;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::lines;
use crate::space::Distribution;
use crate::study::{Direction, State, Study, Trial, number};

/// The studies of a journal.
#[derive(Debug, Default)]
pub struct Replay {
    /// Those that were begun; none in place of one that was deleted.
    studies: Vec<Option<Study>>,
    /// Of each trial, its study and its place there.
    trials: Vec<(usize, usize)>,
    /// So many lines were read.
    lines: u64,
}

impl Replay {
    /// What a journal comes to that is only looked at; `name` is for errors.
    ///
    /// # Errors
    /// When a line is none.
    pub fn of(bytes: &[u8], name: &dyn Display) -> Result<Replay> {
        let mut replay = Replay::default();
        replay.append(bytes, name)?;
        Ok(replay)
    }

    /// Does what the next lines say, and tells how long they are together: the last one counts once it is whole.
    pub(super) fn append(&mut self, bytes: &[u8], name: &dyn Display) -> Result<usize> {
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok(0) };
        for line in bytes[..end].split(|byte| *byte == b'\n') {
            self.lines += 1;
            let done = std::str::from_utf8(line)
                .map_err(anyhow::Error::from)
                .and_then(lines::parse)
                .and_then(|line| self.apply(&line));
            done.with_context(|| format!("{name}, line {}", self.lines))?;
        }
        Ok(end + 1)
    }

    /// The study of a name.
    pub fn study(&self, name: &str) -> Option<&Study> {
        self.studies.iter().flatten().find(|study| study.name == name)
    }

    /// The names of all studies.
    pub fn names(&self) -> Vec<&str> {
        self.studies.iter().flatten().map(|study| study.name.as_str()).collect()
    }

    /// How many trials all studies have: the number in the file that the next one gets.
    pub fn trial_count(&self) -> u64 {
        self.trials.len() as u64
    }

    /// Does what a line says.
    fn apply(&mut self, line: &Value) -> Result<()> {
        match line["op_code"].as_u64() {
            Some(0) => self.create_study(line),
            Some(1) => {
                let study = index(line, "study_id")?;
                self.studies.get_mut(study).into_iter().for_each(|study| *study = None);
                Ok(())
            }
            Some(2) => {
                let id = index(line, "study_id")?;
                if let Some(study) = self.studies.get_mut(id).and_then(Option::as_mut) {
                    note(&mut study.user, &line["user_attr"]);
                }
                Ok(())
            }
            Some(3 | 10) => Ok(()),
            Some(4) => self.create_trial(line),
            Some(code @ 5..=9) => self.change_trial(code, line),
            other => {
                bail!("a line does {}, which is not known", other.map_or("nothing".into(), |code| code.to_string()))
            }
        }
    }

    fn create_study(&mut self, line: &Value) -> Result<()> {
        let name = line["study_name"].as_str().context("a study has no name")?;
        if self.study(name).is_some() {
            return Ok(());
        }
        let directions =
            line["directions"].as_array().context("a study has no directions")?.iter().map(|one| match one.as_u64() {
                Some(2) => Direction::Maximize,
                _ => Direction::Minimize,
            });
        self.studies.push(Some(Study::new(self.studies.len() as u64, name, directions.collect())));
        Ok(())
    }

    fn create_trial(&mut self, line: &Value) -> Result<()> {
        let at = index(line, "study_id")?;
        let Some(study) = self.studies.get_mut(at).and_then(Option::as_mut) else { return Ok(()) };
        let state = line["state"]
            .as_u64()
            .map_or(Some(State::Running), State::of)
            .context("a trial is in no state that is known")?;
        let mut trial = Trial::new(self.trials.len() as u64, study.trials.len() as u64, state);
        for (name, text) in line["distributions"].as_object().into_iter().flatten() {
            trial.distributions.insert(name.clone(), Distribution::from_json(text.as_str().unwrap_or_default())?);
        }
        for (name, value) in line["params"].as_object().into_iter().flatten() {
            trial.params.insert(name.clone(), number(value).with_context(|| format!("`{name}` has no number"))?);
        }
        note(&mut trial.user, &line["user_attrs"]);
        note(&mut trial.system, &line["system_attrs"]);
        for (step, value) in line["intermediate_values"].as_object().into_iter().flatten() {
            trial.reports.insert(step.parse()?, number(value).context("a report is no number")?);
        }
        let listed = line["values"].as_array().map(|values| values.iter().filter_map(number).collect());
        trial.values = listed.unwrap_or_else(|| number(&line["value"]).into_iter().collect());
        self.trials.push((at, study.trials.len()));
        study.trials.push(trial);
        Ok(())
    }

    fn change_trial(&mut self, code: u64, line: &Value) -> Result<()> {
        let Some((study, at)) = self.trials.get(index(line, "trial_id")?).copied() else { return Ok(()) };
        let Some(trial) = self.studies[study].as_mut().and_then(|study| study.trials.get_mut(at)) else {
            return Ok(());
        };
        if trial.state.is_finished() {
            return Ok(());
        }
        match code {
            5 => {
                let name = line["param_name"].as_str().context("a parameter has no name")?.to_owned();
                let distribution = Distribution::from_json(line["distribution"].as_str().unwrap_or_default())?;
                let value = number(&line["param_value_internal"]).with_context(|| format!("`{name}` has no number"))?;
                trial.distributions.insert(name.clone(), distribution);
                trial.params.insert(name, value);
            }
            6 => {
                let state =
                    line["state"].as_u64().and_then(State::of).context("a trial is in no state that is known")?;
                if state == State::Running && trial.state == State::Running {
                    return Ok(());
                }
                trial.state = state;
                if let Some(values) = line["values"].as_array() {
                    trial.values = values.iter().filter_map(number).collect();
                }
            }
            7 => {
                let step = line["step"].as_i64().context("a report has no step")?;
                trial.reports.insert(step, number(&line["intermediate_value"]).context("a report is no number")?);
            }
            8 => note(&mut trial.user, &line["user_attr"]),
            _ => note(&mut trial.system, &line["system_attr"]),
        }
        Ok(())
    }
}

fn index(line: &Value, key: &str) -> Result<usize> {
    line[key].as_u64().and_then(|id| usize::try_from(id).ok()).with_context(|| format!("a line has no `{key}`"))
}

fn note(notes: &mut Map<String, Value>, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        notes.insert(key.clone(), value.clone());
    }
}
