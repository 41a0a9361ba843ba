//! Values by chance.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::space::{Distribution, Space, Values};

pub(super) fn suggest(space: &Space, rng: &mut ChaCha8Rng) -> Values {
    space.fill(|parameter| draw(&parameter.distribution, rng))
}

/// An inner value, each as likely as the other; with steps, half a step belongs to either side of a value.
pub(crate) fn draw(distribution: &Distribution, rng: &mut ChaCha8Rng) -> f64 {
    if let Some(only) = distribution.single() {
        return only;
    }
    let mut between = |low: f64, high: f64| low + (high - low) * rng.random::<f64>();
    match distribution {
        Distribution::Float { low, high, log: true, .. } => between(low.ln(), high.ln()).exp().clamp(*low, *high),
        Distribution::Float { low, high, step: None, .. } => between(*low, *high).clamp(*low, *high),
        Distribution::Float { low, high, step: Some(step), .. } => {
            stepped(between(low - step / 2.0, high + step / 2.0), *low, *high, *step)
        }
        Distribution::Int { low, high, log, step } => {
            let (low, high, step) = (*low as f64, *high as f64, *step as f64);
            let drawn = match log {
                true => between((low - 0.5).ln(), (high + 0.5).ln()).exp(),
                false => between(low - step / 2.0, high + step / 2.0),
            };
            stepped(drawn, low, high, step)
        }
        Distribution::Categorical { choices } => rng.random_range(0..choices.len().max(1)) as f64,
    }
}

/// The nearest value of those that lie `step` apart from `low` on.
pub(crate) fn stepped(value: f64, low: f64, high: f64, step: f64) -> f64 {
    // The last one may lie below the end.
    let count = ((high - low) / step + 1e-9).floor();
    low + ((value - low) / step).round_ties_even().clamp(0.0, count) * step
}
