//! How much each parameter matters, as Optuna 5 says it when it is told nothing else: PED-ANOVA (Watanabe et al., 2023, arXiv 2304.10255).
//!
//! Of each parameter a density is made of the best tenth of the complete trials, and one of all; how far the former is from the latter
//! (Pearson's divergence) is what the parameter matters. Where a parameter is there for some trials only, or with other values to choose from,
//! each such regime is looked at by itself and counts by its share of trials (Conditional PED-ANOVA, arXiv 2601.20800).

use std::cmp::Ordering;
use std::fmt;

use indexmap::IndexMap;
use serde_json::Value;

use crate::population::EXCHANGE;
use crate::sampler::{front, normal};
use crate::space::Distribution;
use crate::study::{State, Study, Trial};

/// With fewer complete trials there are no importances: the best tenth would be less than a trial.
pub const LEAST_TRIALS: usize = 10;
/// Of all trials so many are the good ones.
const GOOD: f64 = 0.1;
/// Numbers are counted on a grid of no more values.
const STEPS: usize = 50;
/// Of a regime at least so many trials are needed.
const LEAST_IN_REGIME: usize = 2;
/// No kernel is narrower: nine tenths of it lie within one step of the grid.
const NARROWEST: f64 = 0.5 / 1.64;

/// Why a study tells nothing of what mattered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untold {
    /// So many trials have finite values, which is too few.
    Few(usize),
    /// There are not two parameters to be compared.
    Single,
    /// The trials' values changed while they were at work, which the journal's parameters do not say.
    Exchanged,
    /// The good trials have the values of all others.
    Alike,
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Untold::Few(count) => {
                write!(f, "{count} of its trials are complete with finite values, and {LEAST_TRIALS} are needed")
            }
            Untold::Single => f.write_str("it has fewer than two parameters"),
            Untold::Exchanged => f.write_str("the members of a population change their values while they train"),
            Untold::Alike => f.write_str("its best trials have no other values than the rest"),
        }
    }
}

/// The parameters with their shares of what mattered, which sum up to 1; what mattered most comes first.
///
/// # Errors
/// When the study tells nothing of it.
pub fn importances(study: &Study) -> Result<Vec<(String, f64)>, Untold> {
    let complete: Vec<&Trial> = study.in_state(State::Complete).collect();
    if complete.iter().any(|trial| trial.user.keys().any(|key| key.starts_with(EXCHANGE))) {
        return Err(Untold::Exchanged);
    }
    let mut names: Vec<&String> = complete.iter().flat_map(|trial| trial.distributions.keys()).collect();
    names.sort();
    names.dedup();
    let objectives = study.directions.len();
    let is_whole =
        |trial: &&Trial| trial.values.len() == objectives && trial.values.iter().all(|value| value.is_finite());
    let trials: Vec<&Trial> = complete.into_iter().filter(is_whole).collect();
    if trials.len() < LEAST_TRIALS || objectives == 0 {
        return Err(Untold::Few(trials.len()));
    }
    if names.len() < 2 {
        return Err(Untold::Single);
    }
    let good = good(study, &trials);
    let raw = names.into_iter().map(|name| (name.clone(), importance(name, &trials, &good)));
    let mut all: Vec<(String, f64)> = raw.collect();
    let sum: f64 = all.iter().map(|(_, value)| value).sum();
    if good.len() == trials.len() || sum <= 0.0 {
        return Err(Untold::Alike);
    }
    all.iter_mut().for_each(|(_, value)| *value /= sum);
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(all)
}

/// The numbers of the best tenth, in order. Of one objective those as good as the last of it are among them; of several, what the
/// front that is too large for it gives is chosen as TPE does.
fn good(study: &Study, trials: &[&Trial]) -> Vec<u64> {
    let wanted = (GOOD * trials.len() as f64).ceil() as usize;
    let mut numbers: Vec<u64> = if study.directions.len() > 1 {
        front::ordered(study, trials.to_vec(), wanted).iter().take(wanted).map(|trial| trial.number).collect()
    } else {
        let loss = |trial: &Trial| study.direction().loss(trial.values[0]);
        let mut losses: Vec<f64> = trials.iter().map(|trial| loss(trial)).collect();
        losses.sort_by(f64::total_cmp);
        let last = losses[wanted - 1];
        trials.iter().filter(|trial| loss(trial) <= last).map(|trial| trial.number).collect()
    };
    numbers.sort_unstable();
    numbers
}

/// What a parameter matters, up to a factor that all have.
fn importance(name: &str, trials: &[&Trial], good: &[u64]) -> f64 {
    let mut sum = 0.0;
    for (distribution, members) in regimes(name, trials) {
        let is_good = |number: &u64| good.binary_search(number).is_ok();
        let best: Vec<f64> = members.iter().filter(|(number, _)| is_good(number)).map(|(_, value)| *value).collect();
        if best.is_empty() || distribution.single().is_some() || members.len() < LEAST_IN_REGIME {
            continue;
        }
        let all: Vec<f64> = members.iter().map(|(_, value)| *value).collect();
        let of_good = best.len() as f64 / good.len() as f64;
        let of_all = all.len() as f64 / trials.len() as f64;
        sum += of_good * of_good / of_all * divergence(&density(distribution, &best), &density(distribution, &all));
    }
    sum
}

/// Values that a parameter could have, and the trials for which it could: their numbers, and its inner values.
type Regime<'t> = (&'t Distribution, Vec<(u64, f64)>);

/// The regimes of a parameter but for the one where it is not there.
fn regimes<'t>(name: &str, trials: &[&'t Trial]) -> Vec<Regime<'t>> {
    let mut regimes: IndexMap<String, Regime> = IndexMap::new();
    for trial in trials {
        let Some((distribution, value)) = trial.distributions.get(name).zip(trial.params.get(name)) else { continue };
        if distribution.is_sound() && has_place(distribution, *value) {
            let regime = regimes.entry(key(distribution)).or_insert_with(|| (distribution, Vec::new()));
            regime.1.push((trial.number, *value));
        }
    }
    regimes.into_values().collect()
}

/// What is the same of the same values; as in Optuna, 1 and 1.0 are the same choice.
fn key(distribution: &Distribution) -> String {
    let Distribution::Categorical { choices } = distribution else { return distribution.to_json() };
    let choice = |choice: &Value| choice.as_f64().map_or_else(|| choice.to_string(), |number| number.to_string());
    choices.iter().map(choice).collect::<Vec<_>>().join("\n")
}

/// Whether an inner value can be counted. Journals of others may say anything.
fn has_place(distribution: &Distribution, value: f64) -> bool {
    match distribution {
        Distribution::Categorical { choices } => value >= 0.0 && value < choices.len() as f64,
        Distribution::Float { log, .. } | Distribution::Int { log, .. } => value.is_finite() && (!log || value > 0.0),
    }
}

fn divergence(of: &[f64], from: &[f64]) -> f64 {
    // So that no place of the grid is impossible.
    const FLOOR: f64 = 1e-12;
    of.iter().zip(from).map(|(of, from)| (from + FLOOR) * ((of + FLOOR) / (from + FLOOR) - 1.0).powi(2)).sum()
}

/// The probability of each choice, or of each value of the grid, of a mixture of kernels: one where values are, by how many are there, and as
/// much as of one value an even one.
fn density(distribution: &Distribution, values: &[f64]) -> Vec<f64> {
    let counts = counts(distribution, values);
    let observed: Vec<usize> = (0..counts.len()).filter(|at| counts[*at] > 0.0).collect();
    let (sum, places) = (values.len() as f64 + 1.0, counts.len() as f64);
    if let Distribution::Categorical { .. } = distribution {
        // Each kernel gives its own choice one share more than the others.
        let even = 1.0 / (observed.len() + 1) as f64;
        let others = even * values.len() as f64;
        return counts.iter().map(|count| ((others + count) / (even * places + 1.0) + 1.0 / places) / sum).collect();
    }
    let width = scott(&observed, &counts).max(NARROWEST);
    let kernels = observed.iter().map(|at| (counts[*at], *at as f64, width));
    let mut density = vec![0.0; counts.len()];
    for (count, center, width) in kernels.chain([(1.0, (places - 1.0) / 2.0, places)]) {
        let between = |from: f64, to: f64| normal::log_between((from - center) / width, (to - center) / width);
        let inside = between(-0.5, places - 0.5);
        for (at, sum_here) in density.iter_mut().enumerate() {
            *sum_here += count / sum * (between(at as f64 - 0.5, at as f64 + 0.5) - inside).exp();
        }
    }
    density
}

/// How many values lie nearest to each place of the grid; of two that are as near, at the lower.
fn counts(distribution: &Distribution, values: &[f64]) -> Vec<f64> {
    let (low, high, log, places) = match distribution {
        Distribution::Categorical { choices } => {
            let mut counts = vec![0.0; choices.len()];
            values.iter().for_each(|value| counts[*value as usize] += 1.0);
            return counts;
        }
        Distribution::Int { low, high, log: true, .. } => {
            let (low, high) = (*low as f64, *high as f64);
            (low, high, true, ((high - low + 1.0).ln() / 2f64.ln()).ceil() + 1.0)
        }
        Distribution::Int { low, high, step, .. } => stepped(*low as f64, *high as f64, *step as f64),
        Distribution::Float { low, high, log: false, step: Some(step) } => stepped(*low, *high, *step),
        Distribution::Float { low, high, log, .. } => (*low, *high, *log, f64::INFINITY),
    };
    let places = places.min(STEPS as f64) as usize;
    let scaled = |value: f64| if log { value.ln() } else { value };
    let width = (scaled(high) - scaled(low)) / (places - 1) as f64;
    let mut counts = vec![0.0; places];
    for value in values {
        let place = ((scaled(*value) - scaled(low)) / width - 0.5).ceil();
        counts[place.clamp(0.0, (places - 1) as f64) as usize] += 1.0;
    }
    counts
}

/// The ends that values with steps have, and how many values there are.
fn stepped(low: f64, high: f64, step: f64) -> (f64, f64, bool, f64) {
    let steps = (high - low) / step;
    let whole = (steps + 1e-9).floor();
    // An end that no step reaches is none; one that is reached stays as it is written.
    let high = if steps - whole > 1e-9 { low + whole * step } else { high };
    (low, high, false, whole + 1.0)
}

/// The width of kernels by Scott's rule (1992).
fn scott(observed: &[usize], counts: &[f64]) -> f64 {
    let sum: f64 = counts.iter().sum();
    let weighted = |of: &dyn Fn(f64) -> f64| observed.iter().map(|at| of(*at as f64) * counts[*at]).sum::<f64>();
    let mean = weighted(&|at| at) / sum;
    let deviation = (weighted(&|at| (at - mean).powi(2)) / (sum - 1.0).max(1.0)).sqrt();
    // The first place up to which there are at least so many, or more.
    let place = |part: f64, least: Ordering| {
        let mut reached = 0.0;
        let found = observed.iter().find(|at| {
            reached += counts[**at];
            reached.total_cmp(&part) >= least
        });
        found.or(observed.last()).map_or(0.0, |at| *at as f64)
    };
    let quartiles = place((sum * 3.0 / 4.0).floor(), Ordering::Greater) - place((sum / 4.0).floor(), Ordering::Equal);
    1.059 * deviation.min(quartiles / 1.34) * sum.powf(-0.2)
}
