//! A Parzen estimator: a density made of a kernel at each observation and a wide one over the whole space.

use std::cell::RefCell;
use std::collections::HashMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::normal::{log_between, log_density, quantile};
use super::random::stepped;
use crate::space::Distribution;

/// The kernels in one dimension.
enum Kernels {
    /// Of each kernel, the probability of each choice.
    Choices(Vec<Vec<f64>>),
    /// Normal distributions that end where the space does.
    Normals(Normals),
}

/// Normal distributions cut off at the ends of a range, of numbers or of their logarithms.
struct Normals {
    centers: Vec<f64>,
    widths: Vec<f64>,
    /// Of each kernel, the logarithm of what of it lies in the range; without steps, times its width.
    inside: Vec<f64>,
    /// Where there are steps: of values that were asked for, the logarithm of each kernel's share.
    known: RefCell<HashMap<u64, Vec<f64>>>,
    /// The range, half a step wider at both ends where there are steps.
    ends: (f64, f64),
    /// As the values are.
    low: f64,
    high: f64,
    log: bool,
    step: Option<f64>,
}

/// A mixture of products of kernels.
pub(super) struct Parzen {
    /// The share of each kernel.
    weights: Vec<f64>,
    dimensions: Vec<Kernels>,
}

/// Observations count alike, but of many the oldest less.
fn weights(count: usize) -> Vec<f64> {
    const FLAT: usize = 25;
    let ramp = count.saturating_sub(FLAT);
    let first = 1.0 / count.max(1) as f64;
    let rising = |index: usize| if ramp < 2 { first } else { first + (1.0 - first) * index as f64 / (ramp - 1) as f64 };
    let mut weights: Vec<f64> = (0..count).map(|index| if index < ramp { rising(index) } else { 1.0 }).collect();
    // The kernel over the whole space.
    weights.push(1.0);
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

impl Parzen {
    /// Of observations, each with a value in every dimension. `even`: the oldest count as much as all others.
    pub fn new(distributions: &[&Distribution], observations: &[Vec<f64>], even: bool) -> Parzen {
        let count = observations.len();
        let share = 1.0 / (count + 1) as f64;
        let weights = if even { vec![share; count + 1] } else { weights(count) };
        let of = |dimension: usize| observations.iter().map(|one| one[dimension]).collect::<Vec<f64>>();
        let dimensions =
            distributions.iter().enumerate().map(|(at, distribution)| kernels(distribution, &of(at))).collect();
        Parzen { weights, dimensions }
    }

    /// A point by chance.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let at = pick(&self.weights, rng);
        let one = |kernels: &Kernels| match kernels {
            Kernels::Choices(all) => pick(&all[at], rng) as f64,
            Kernels::Normals(normals) => normals.draw(at, rng),
        };
        self.dimensions.iter().map(one).collect()
    }

    /// The logarithm of the density at a point.
    pub fn log_density(&self, point: &[f64]) -> f64 {
        let mut sums: Vec<f64> = self.weights.iter().map(|weight| weight.ln()).collect();
        for (kernels, value) in self.dimensions.iter().zip(point) {
            match kernels {
                Kernels::Choices(all) => {
                    sums.iter_mut().zip(all).for_each(|(sum, one)| *sum += one[*value as usize].ln())
                }
                Kernels::Normals(normals) => normals.add_log_density(*value, &mut sums),
            }
        }
        let most = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if most == f64::NEG_INFINITY {
            return most;
        }
        sums.iter().map(|sum| (sum - most).exp()).sum::<f64>().ln() + most
    }
}

/// An index, as likely as its weight; they sum up to 1.
fn pick(weights: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let mut left = rng.random::<f64>();
    for (index, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return index;
        }
    }
    weights.len() - 1
}

fn kernels(distribution: &Distribution, observations: &[f64]) -> Kernels {
    let (low, high, log, step) = match distribution {
        Distribution::Categorical { choices } => return Kernels::Choices(of_choices(choices.len(), observations)),
        Distribution::Float { low, high, log, step } => (*low, *high, *log, *step),
        Distribution::Int { low, high, log, step } => (*low as f64, *high as f64, *log, Some(*step as f64)),
    };
    let half = step.map_or(0.0, |step| step / 2.0);
    let scaled = |value: f64| if log { value.ln() } else { value };
    let ends = (scaled(low - half), scaled(high + half));
    let mut centers: Vec<f64> = observations.iter().map(|value| scaled(*value)).collect();
    let mut widths = widths(&centers, ends);
    centers.push(0.5 * (ends.0 + ends.1));
    widths.push(ends.1 - ends.0);
    let inside = centers.iter().zip(&widths).map(|(center, width)| {
        let share = log_between((ends.0 - center) / width, (ends.1 - center) / width);
        if step.is_some() { share } else { share + width.ln() }
    });
    let (inside, known) = (inside.collect(), RefCell::default());
    Kernels::Normals(Normals { centers, widths, inside, known, ends, low, high, log, step })
}

/// Each kernel gives its own choice one share more than the others.
fn of_choices(count: usize, observations: &[f64]) -> Vec<Vec<f64>> {
    let even = 1.0 / (observations.len() + 1) as f64;
    let kernel = |own: Option<usize>| {
        let raw: Vec<f64> = (0..count).map(|choice| even + if own == Some(choice) { 1.0 } else { 0.0 }).collect();
        let sum: f64 = raw.iter().sum();
        raw.iter().map(|share| share / sum).collect()
    };
    let mut all: Vec<Vec<f64>> = observations.iter().map(|value| kernel(Some(*value as usize))).collect();
    all.push(kernel(None));
    all
}

/// Each kernel reaches to the farther of its two neighbours, but for the outermost, which reach to their only one; none is narrower than a
/// part of the range that is the smaller the more there are.
fn widths(centers: &[f64], ends: (f64, f64)) -> Vec<f64> {
    let mut order: Vec<usize> = (0..centers.len()).collect();
    order.sort_by(|a, b| centers[*a].total_cmp(&centers[*b]));
    let at = |place: usize| match place {
        0 => ends.0,
        place if place > centers.len() => ends.1,
        place => centers[order[place - 1]],
    };
    let whole = ends.1 - ends.0;
    let narrowest = whole / f64::min(100.0, (centers.len() + 2) as f64);
    let mut widths = vec![0.0; centers.len()];
    for (place, index) in order.iter().enumerate() {
        let (left, right) = (at(place + 1) - at(place), at(place + 2) - at(place + 1));
        let width = match (place, centers.len()) {
            (0, 2..) => right,
            (place, count @ 2..) if place + 1 == count => left,
            _ => left.max(right),
        };
        widths[*index] = width.clamp(narrowest, whole);
    }
    widths
}

impl Normals {
    fn draw(&self, at: usize, rng: &mut ChaCha8Rng) -> f64 {
        let (center, width) = (self.centers[at], self.widths[at]);
        let share = rng.random::<f64>();
        let drawn = quantile(share, (self.ends.0 - center) / width, (self.ends.1 - center) / width) * width + center;
        let value = if self.log { drawn.exp() } else { drawn };
        match self.step {
            Some(step) => stepped(value, self.low, self.high, step),
            None => value.clamp(self.low, self.high),
        }
    }

    fn add_log_density(&self, value: f64, sums: &mut [f64]) {
        if let Some(step) = self.step {
            // Few values are drawn, and each more than once.
            let mut known = self.known.borrow_mut();
            let shares = known.entry(value.to_bits()).or_insert_with(|| self.shares(value, step));
            sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += *share);
            return;
        }
        let value = self.scaled(value);
        for ((sum, (center, width)), inside) in
            sums.iter_mut().zip(self.centers.iter().zip(&self.widths)).zip(&self.inside)
        {
            *sum += log_density((value - center) / width) - inside;
        }
    }

    /// Of each kernel, the logarithm of its share of all that is rounded to the value.
    fn shares(&self, value: f64, step: f64) -> Vec<f64> {
        let (left, right) = (self.scaled(value - step / 2.0), self.scaled(value + step / 2.0));
        let kernels = self.centers.iter().zip(&self.widths).zip(&self.inside);
        kernels
            .map(|((center, width), inside)| log_between((left - center) / width, (right - center) / width) - inside)
            .collect()
    }

    fn scaled(&self, value: f64) -> f64 {
        if self.log { value.ln() } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn densities_sum_up_to_one() {
        let choices = Distribution::Categorical { choices: vec!["a".into(), "b".into(), "c".into()] };
        let ints = Distribution::Int { low: 1, high: 9, log: true, step: 1 };
        let mixture = Parzen::new(&[&choices, &ints], &[vec![0.0, 3.0], vec![2.0, 9.0], vec![2.0, 1.0]], false);
        let all = (0..3).flat_map(|choice| (1..=9).map(move |int| [f64::from(choice), f64::from(int)]));
        let sum: f64 = all.map(|point| mixture.log_density(&point).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        let float = Distribution::Float { low: -1.0, high: 3.0, log: false, step: None };
        let mixture = Parzen::new(&[&float], &[vec![0.5], vec![-1.0], vec![0.6]], false);
        let sum: f64 =
            (0..4000).map(|at| mixture.log_density(&[-1.0 + (f64::from(at) + 0.5) * 1e-3]).exp() * 1e-3).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn what_is_drawn_is_as_dense_as_it_says() {
        let float = Distribution::Float { low: 1e-3, high: 10.0, log: true, step: None };
        let mixture = Parzen::new(&[&float], &[vec![0.01], vec![5.0]], false);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<f64> = (0..20000).map(|_| mixture.draw(&mut rng)[0].ln()).collect();
        let (low, high) = (1e-3f64.ln(), 10f64.ln());
        for part in 0..8 {
            let from = low + (high - low) * f64::from(part) / 8.0;
            let width = (high - low) / 8.0;
            let share = drawn.iter().filter(|value| (from..from + width).contains(*value)).count() as f64 / 20000.0;
            let steps =
                (0..1000).map(|at| mixture.log_density(&[(from + width * (f64::from(at) + 0.5) / 1000.0).exp()]).exp());
            let expected = steps.sum::<f64>() * width / 1000.0;
            assert!((share - expected).abs() < 0.015, "{part}: {share} {expected}");
        }
    }

    #[test]
    fn of_many_observations_the_oldest_count_less() {
        let many = weights(60);
        assert!((many[0] * 60.0 - many[60]).abs() < 1e-12 && many[34] == many[35] && many[59] == many[60]);
        assert_eq!(weights(3), [0.25; 4]);
    }
}
