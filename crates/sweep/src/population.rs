//! Population-based training (Jaderberg et al. 2017): which members of a population go on from which others, and with what values.
//!
//! What is drawn depends on the seed, the report and the member alone.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::sampler::random::{draw, stepped};
use crate::space::{Distribution, Parameter, Space, Values};

/// How a note among a trial's user attributes begins that says that it went on from another one.
pub const EXCHANGE: &str = "pipe:exchange:";

/// How members learn from each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Population {
    /// After every so many reports.
    pub interval: u64,
    /// The part of the members that goes on from others, and the part from which they do.
    pub fraction: f64,
    /// By one of these a number is multiplied.
    pub factors: Vec<f64>,
    /// How probably a choice is drawn anew.
    pub resample: f64,
    /// The seed of what is drawn.
    pub seed: u64,
}

/// A member at a report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Its trial.
    pub member: u64,
    /// What it reported, so that the smaller is better; what is no number is worst.
    pub loss: f64,
}

impl Population {
    /// Who goes on from whom after a report: each of the worst from one of the best, drawn evenly; never from one that is no better.
    pub fn pairs(&self, standings: &[Standing], report: u64) -> Vec<(u64, u64)> {
        let mut ranked = standings.to_vec();
        let key = |standing: &Standing| if standing.loss.is_nan() { f64::INFINITY } else { standing.loss };
        ranked.sort_by(|a, b| key(a).total_cmp(&key(b)).then(a.member.cmp(&b.member)));
        let count = ((self.fraction * ranked.len() as f64).round() as usize).max(1).min(ranked.len() / 2);
        let (best, worst) = (&ranked[..count], &ranked[ranked.len() - count..]);
        let pair = |one: &Standing| {
            let other = best.choose(&mut self.rng(0, report, one.member))?;
            (key(other) < key(one)).then_some((one.member, other.member))
        };
        worst.iter().filter_map(pair).collect()
    }

    /// What a member goes on with, after a report, that has the values of another: numbers are multiplied by one of the factors, and kept
    /// between their ends; choices are drawn anew now and then.
    pub fn explore(&self, space: &Space, values: &Values, report: u64, member: u64) -> Values {
        let mut rng = self.rng(1, report, member);
        space.fill(|parameter| self.changed(parameter, values.get(&parameter.name).copied(), &mut rng))
    }

    fn changed(&self, parameter: &Parameter, former: Option<f64>, rng: &mut ChaCha8Rng) -> f64 {
        let factor = self.factors.choose(rng).copied().unwrap_or(1.0);
        let anew = rng.random_bool(self.resample.clamp(0.0, 1.0));
        let drawn = draw(&parameter.distribution, rng);
        let Some(former) = former else { return drawn };
        match &parameter.distribution {
            Distribution::Categorical { .. } if anew => drawn,
            Distribution::Categorical { .. } => former,
            Distribution::Float { low, high, step: None, .. } => (former * factor).clamp(*low, *high),
            Distribution::Float { low, high, step: Some(step), .. } => stepped(former * factor, *low, *high, *step),
            Distribution::Int { low, high, step, .. } => {
                stepped(former * factor, *low as f64, *high as f64, *step as f64)
            }
        }
    }

    fn rng(&self, purpose: u64, report: u64, member: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        // Apart from the streams of trials.
        rng.set_stream((1 << 63) | (purpose << 62) | (report << 24) | member);
        rng
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn population() -> Population {
        Population { interval: 1, fraction: 0.2, factors: vec![0.8, 1.2], resample: 0.25, seed: 3 }
    }

    fn standings(losses: &[f64]) -> Vec<Standing> {
        losses.iter().enumerate().map(|(at, loss)| Standing { member: at as u64, loss: *loss }).collect()
    }

    #[test]
    fn the_worst_go_on_from_the_best() {
        let population = population();
        assert_eq!(population.pairs(&standings(&[2.0, 3.0, 1.0]), 1), [(1, 2)]);
        assert_eq!(population.pairs(&standings(&[2.0, f64::NAN, 1.0]), 1), [(1, 2)], "what is no number is worst");
        assert_eq!(population.pairs(&standings(&[1.0, 1.0, 1.0]), 1), [], "none is better");
        assert_eq!(population.pairs(&standings(&[1.0]), 1), []);
        let many: Vec<f64> = (0..10).map(f64::from).collect();
        let mut from = std::collections::BTreeSet::new();
        for report in 1..40 {
            let pairs = population.pairs(&standings(&many), report);
            assert_eq!(pairs.iter().map(|(one, _)| *one).collect::<Vec<_>>(), [8, 9]);
            from.extend(pairs.into_iter().map(|(_, other)| other));
        }
        assert_eq!(from.into_iter().collect::<Vec<_>>(), [0, 1], "each of the best");
    }

    #[test]
    fn numbers_are_changed_by_a_factor_and_stay_between_their_ends() {
        let of = |name: &str, distribution| Parameter { name: name.into(), distribution, when: Vec::new() };
        let choices = vec![json!("a"), json!("b"), json!("c")];
        let space = Space {
            parameters: vec![
                of("lr", Distribution::Float { low: 1e-3, high: 1.0, log: true, step: None }),
                of("stepped", Distribution::Float { low: 0.0, high: 1.0, log: false, step: Some(0.25) }),
                of("n", Distribution::Int { low: 1, high: 10, log: false, step: 1 }),
                of("choice", Distribution::Categorical { choices }),
            ],
        };
        let population = population();
        let former: Values = [("lr", 0.1), ("stepped", 0.5), ("n", 10.0), ("choice", 1.0)]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect();
        let drawn: Vec<Values> = (1..200).map(|report| population.explore(&space, &former, report, 2)).collect();
        assert_eq!(drawn[0], population.explore(&space, &former, 1, 2), "the same each time");
        let all = |name: &str| {
            let mut all: Vec<String> = drawn.iter().map(|values| format!("{:.3}", values[name])).collect();
            all.sort();
            all.dedup();
            all
        };
        assert_eq!(all("lr"), ["0.080", "0.120"]);
        assert_eq!(all("stepped"), ["0.500"], "on its steps");
        assert_eq!(all("n"), ["10.000", "8.000"]);
        assert_eq!(all("choice"), ["0.000", "1.000", "2.000"]);
        let kept = drawn.iter().filter(|values| values["choice"] == 1.0).count();
        // Three quarters, and a third of the rest: 166 of 199; six standard deviations are 32.
        assert!((134..=198).contains(&kept), "{kept}");
        let low: Values = [("lr".to_owned(), 1.1e-3)].into_iter().collect();
        let values = population.explore(&space, &low, 1, 2);
        assert!((1e-3..=1.32e-3).contains(&values["lr"]) && values.len() == 4, "what was not there is drawn");
    }
}
