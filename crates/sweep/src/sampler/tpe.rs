//! The tree-structured Parzen estimator (Bergstra et al., 2011), with what Optuna 5 does unless it is told otherwise.
//!
//! Of the trials the best tenth, 25 at most, are told from the others, and a density is made of either. Of 24 points drawn from that of the good
//! ones, the one that is densest there against the other is tried. Parameters that every trial has are drawn together, others one by one; with
//! several objectives, all one by one. Trials at work count as bad ones, so that workers do not try the same.

use rand_chacha::ChaCha8Rng;

use super::front;
use super::parzen::Parzen;
use super::random;
use crate::space::{Distribution, Space, Values};
use crate::study::{State, Study, Trial};

/// Before so many trials are finished, values are by chance.
const STARTUP: usize = 10;
/// So many points are drawn.
const CANDIDATES: usize = 24;
/// No more trials of one objective are good ones.
const MOST_GOOD: usize = 25;

pub(super) fn suggest(study: &Study, space: &Space, rng: &mut ChaCha8Rng) -> Values {
    let finished = study.trials.iter().filter(|trial| matches!(trial.state, State::Complete | State::Pruned)).count();
    if finished < STARTUP {
        return random::suggest(space, rng);
    }
    let (good, bad) = split(study, finished);
    let several = study.directions.len() > 1;
    let names = if several { Vec::new() } else { common(study, space) };
    let together: Vec<(&str, &Distribution)> =
        names.iter().filter_map(|name| Some((name.as_str(), &space.get(name)?.distribution))).collect();
    let drawn = best_point(&together, &good, &bad, several, rng);
    space.fill(|parameter| match names.iter().position(|name| *name == parameter.name) {
        Some(at) => drawn[at],
        None => match parameter.distribution.single() {
            Some(only) => only,
            None => best_point(&[(&parameter.name, &parameter.distribution)], &good, &bad, several, rng)[0],
        },
    })
}

/// The parameters that all finished trials have, with the same values to choose from.
fn common(study: &Study, space: &Space) -> Vec<String> {
    let finished = || study.trials.iter().filter(|trial| matches!(trial.state, State::Complete | State::Pruned));
    let varies = space.parameters.iter().filter(|parameter| parameter.distribution.single().is_none());
    let in_all = varies.filter(|parameter| {
        finished().all(|trial| trial.distributions.get(&parameter.name) == Some(&parameter.distribution))
    });
    let mut names: Vec<String> = in_all.map(|parameter| parameter.name.clone()).collect();
    names.sort();
    names
}

/// Of points drawn where good trials are, the one where others are least.
fn best_point(
    of: &[(&str, &Distribution)],
    good: &[&Trial],
    bad: &[&Trial],
    several: bool,
    rng: &mut ChaCha8Rng,
) -> Vec<f64> {
    if of.is_empty() {
        return Vec::new();
    }
    let distributions: Vec<&Distribution> = of.iter().map(|(_, distribution)| *distribution).collect();
    let observed = |trials: &[&Trial]| -> Vec<Vec<f64>> {
        let values = |trial: &&Trial| {
            of.iter().map(|(name, distribution)| within(distribution, *trial.params.get(*name)?)).collect()
        };
        trials.iter().filter_map(values).collect()
    };
    let good = Parzen::new(&distributions, &observed(good), several);
    let bad = Parzen::new(&distributions, &observed(bad), false);
    let mut best = (f64::NEG_INFINITY, Vec::new());
    for _ in 0..CANDIDATES {
        let point = good.draw(rng);
        let gain = good.log_density(&point) - bad.log_density(&point);
        if best.1.is_empty() || gain > best.0 {
            best = (gain, point);
        }
    }
    best.1
}

/// An inner value as far as the space, which may have been another then, still has it.
fn within(distribution: &Distribution, value: f64) -> Option<f64> {
    let fits = match distribution {
        Distribution::Categorical { choices } => (value as usize) < choices.len(),
        Distribution::Float { log: true, .. } | Distribution::Int { log: true, .. } => value > 0.0,
        _ => true,
    };
    Some(value).filter(|value| fits && value.is_finite())
}

/// The good trials and the others, each by number.
fn split(study: &Study, finished: usize) -> (Vec<&Trial>, Vec<&Trial>) {
    let several = study.directions.len() > 1;
    let tenth = finished.div_ceil(10);
    let mut wanted = if several { tenth } else { tenth.min(MOST_GOOD) };
    let (mut complete, mut pruned, mut infeasible, mut bad) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for trial in &study.trials {
        match trial.state {
            State::Running => bad.push(trial),
            State::Complete | State::Pruned if trial.violation() > 0.0 => infeasible.push(trial),
            State::Complete => complete.push(trial),
            State::Pruned => pruned.push(trial),
            State::Failed | State::Waiting => {}
        }
    }
    match several {
        true => complete = front::ordered(study, complete, wanted),
        false => complete.sort_by(|a, b| loss(study, a).total_cmp(&loss(study, b))),
    }
    // Those that came farther before they were ended, and of these the better.
    let score = |trial: &Trial| match trial.reports.last_key_value() {
        Some((step, value)) => {
            (-(*step as f64), if value.is_nan() { f64::INFINITY } else { study.direction().loss(*value) })
        }
        None => (1.0, 0.0),
    };
    pruned.sort_by(|a, b| score(a).0.total_cmp(&score(b).0).then(score(a).1.total_cmp(&score(b).1)));
    infeasible.sort_by(|a, b| a.violation().total_cmp(&b.violation()));
    let mut good = Vec::new();
    for mut group in [complete, pruned, infeasible] {
        let rest = group.split_off(wanted.min(group.len()));
        wanted -= group.len();
        good.extend(group);
        bad.extend(rest);
    }
    good.sort_by_key(|trial| trial.number);
    bad.sort_by_key(|trial| trial.number);
    (good, bad)
}

fn loss(study: &Study, trial: &Trial) -> f64 {
    trial.values.first().map_or(f64::INFINITY, |value| study.direction().loss(*value))
}
