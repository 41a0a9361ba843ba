//! What is said of trials: a line as each ends, and a table when all have.

use anyhow::Result;
use pipe_sweep::importance::Untold;
use pipe_sweep::{Space, State, Study, Trial, importances};
use pipe_vocab::record;
use pipe_vocab::shown::shown_name;
use serde_json::{Map, Value};

use super::exchange::values_now;
use super::settings::Settings;
use super::worker::folder_of;
use crate::output::{print, say};
use crate::runs::table::{clipped, short, table};
use crate::source::shown;

/// So many trials are in the table.
const ROWS: usize = 10;

fn values(trial: &Trial) -> String {
    trial.values.iter().map(|value| record::short(*value)).collect::<Vec<_>>().join(", ")
}

/// The values of a trial's parameters, by now.
fn outer(trial: &Trial, space: &Space) -> Map<String, Value> {
    let outer = |(name, inner): (String, f64)| {
        let own = || trial.distributions.get(&name);
        let distribution = space.get(&name).map(|parameter| &parameter.distribution).or_else(own)?;
        let value = distribution.outer(inner);
        Some((name, value))
    };
    values_now(trial, space).into_iter().filter_map(outer).collect()
}

fn parameters(trial: &Trial, space: &Space) -> String {
    let one = |(name, value): (&String, &Value)| format!("{} = {}", shown_name(name), short(value));
    outer(trial, space).iter().map(one).collect::<Vec<_>>().join(", ")
}

pub(super) fn completed(study: &Study, trial: &Trial, settings: &Settings) {
    let best = match study.best()[..] {
        _ if trial.violation() > 0.0 => "; it breaks a constraint".to_owned(),
        [best] if best.number == trial.number => "; the best so far".to_owned(),
        [best] => format!("; the best is trial {}: {}", best.number, values(best)),
        _ => String::new(),
    };
    let done = study.trials.iter().filter(|trial| trial.state.is_finished()).count();
    say!(
        "trial {} ({done} of {}): {}, with {}{best}",
        trial.number,
        settings.trials,
        values(trial),
        parameters(trial, &settings.space)
    );
}

pub(super) fn pruned(trial: &Trial, settings: &Settings) {
    let reports = trial.reports.len();
    let plural = if reports == 1 { "" } else { "s" };
    say!(
        "trial {} was ended after {reports} report{plural}: {}, with {}",
        trial.number,
        values(trial),
        parameters(trial, &settings.space)
    );
}

pub(super) fn failed(number: u64, reason: &str) {
    say!("trial {number} failed: {reason}");
}

/// What happens to a member of a population.
pub(super) fn say_of(number: u64, what: &str) {
    say!("trial {number} {what}");
}

/// A member goes on from another; each with what it reported.
pub(super) fn goes_on(report: u64, member: (u64, &str), from: (u64, &str), set: &Map<String, Value>) {
    let values: Vec<String> =
        set.iter().map(|(name, value)| format!("{} = {}", shown_name(name), short(value))).collect();
    say!(
        "after report {report} trial {} ({}) goes on from trial {} ({}), with {}",
        member.0,
        member.1,
        from.0,
        from.1,
        values.join(", ")
    );
}

/// The best trials, and how many there are.
pub(super) fn summary(study: &Study, settings: &Settings) -> Result<()> {
    let ranked = study.ranked();
    let names: Vec<&String> = settings.space.parameters.iter().map(|parameter| &parameter.name).collect();
    let metrics = settings.objectives.iter().map(|objective| clipped(&objective.metric));
    let heading = std::iter::once("trial".to_owned()).chain(metrics).chain(names.iter().map(|name| clipped(name)));
    let row = |trial: &&Trial| {
        let own =
            std::iter::once(trial.number.to_string()).chain(trial.values.iter().map(|value| record::short(*value)));
        let now = outer(trial, &settings.space);
        own.chain(names.iter().map(|name| short(now.get(*name).unwrap_or(&Value::Null)))).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(heading.collect()).chain(ranked.iter().take(ROWS).map(row)).collect();
    let count = |state: State| study.in_state(state).count();
    let mut text = if ranked.is_empty() { String::new() } else { table(&rows) };
    text.push_str(&format!(
        "{} trials complete, {} ended early, {} failed",
        count(State::Complete),
        count(State::Pruned),
        count(State::Failed)
    ));
    if let Some(best) = ranked.first() {
        text.push_str(&format!("; the best run is {}", shown(&folder_of(settings, best.number, 0))));
    }
    text.extend(mattered(study).map(|line| format!("\n{line}")));
    print(&(text + "\n"))?;
    Ok(())
}

/// Which parameters mattered, where there are trials enough to tell.
fn mattered(study: &Study) -> Option<String> {
    let one = |(name, share): &(String, f64)| format!("{} {share:.2}", shown_name(name));
    match importances(study) {
        Ok(shares) => {
            let shares: Vec<String> = shares.iter().map(one).collect();
            Some(format!("what mattered: {} (PED-ANOVA, as Optuna)", shares.join(", ")))
        }
        Err(why @ Untold::Alike) => Some(format!("what mattered is not known: {why}")),
        Err(Untold::Few(_) | Untold::Single | Untold::Exchanged) => None,
    }
}

#[cfg(test)]
mod tests {
    use pipe_sweep::{Direction, Distribution};

    use super::*;

    #[test]
    fn what_mattered_is_said_of_ten_trials_on() {
        let mut study = Study::new(0, "s", vec![Direction::Minimize]);
        let mut said = Vec::new();
        for number in 0..12 {
            let mut trial = Trial::new(number, number, State::Complete);
            let (lr, momentum) = (number as f64 / 12.0, (number * 5 % 12) as f64 / 12.0);
            for (name, value) in [("optimizer.sgd.momentum", momentum), ("optimizer.sgd.lr", lr)] {
                let distribution = Distribution::Float { low: 0.0, high: 1.0, log: false, step: None };
                trial.distributions.insert(name.into(), distribution);
                trial.params.insert(name.into(), value);
            }
            trial.values = vec![lr];
            study.trials.push(trial);
            said.push(mattered(&study));
        }
        assert!(said[..9].iter().all(Option::is_none) && said[9].is_some(), "{said:?}");
        let line = said.pop().flatten().unwrap();
        assert!(
            line.starts_with("what mattered: optimizer.sgd.lr 0.") && line.contains(", optimizer.sgd.momentum 0."),
            "{line}"
        );
        study.trials.iter_mut().for_each(|trial| trial.values = vec![1.0]);
        assert!(mattered(&study).unwrap().starts_with("what mattered is not known: "));
    }
}
