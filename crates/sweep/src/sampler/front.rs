//! Which of trials with several objectives are good ones: front by front, and of the front that is too large those that together
//! dominate most.

use std::cmp::Ordering;

use crate::study::{Study, Trial, dominates};

/// The trials, so that the `wanted` best come first.
pub(crate) fn ordered<'s>(study: &Study, trials: Vec<&'s Trial>, wanted: usize) -> Vec<&'s Trial> {
    let losses: Vec<Vec<f64>> = trials.iter().map(|trial| study.losses(trial)).collect();
    let mut left: Vec<usize> = (0..trials.len()).collect();
    let mut order = Vec::new();
    while !left.is_empty() && order.len() < wanted {
        let is_front = |at: &usize| !left.iter().any(|other| dominates(&losses[*other], &losses[*at]));
        let (front, rest): (Vec<usize>, Vec<usize>) = left.iter().partition(|at| is_front(at));
        let room = wanted - order.len();
        match front.len() <= room {
            true => order.extend(front),
            false => order.extend(chosen(&front, &losses, room)),
        }
        left = rest;
    }
    let others: Vec<usize> = (0..trials.len()).filter(|at| !order.contains(at)).collect();
    order.into_iter().chain(others).map(|at| trials[at]).collect()
}

/// So many of a front, one after the other the one that adds most to what is dominated.
fn chosen(front: &[usize], losses: &[Vec<f64>], count: usize) -> Vec<usize> {
    let dimensions = losses[front[0]].len();
    let reference: Vec<f64> = (0..dimensions)
        .map(|at| {
            let worst = front.iter().map(|one| losses[*one][at]).fold(f64::NEG_INFINITY, f64::max);
            let beyond = f64::max(1.1 * worst, 0.9 * worst);
            if beyond == 0.0 { 1e-12 } else { beyond }
        })
        .collect();
    let mut chosen: Vec<usize> = Vec::new();
    let mut points: Vec<Vec<f64>> = Vec::new();
    for _ in 0..count {
        let gain = |one: usize| {
            let own: Vec<Vec<f64>> = vec![losses[one].clone()];
            let limited: Vec<Vec<f64>> =
                points.iter().map(|point| point.iter().zip(&losses[one]).map(|(a, b)| a.max(*b)).collect()).collect();
            volume(&own, &reference) - volume(&limited, &reference)
        };
        // Of those that add as much the first by their losses, as in Optuna.
        let order = |a: usize, b: usize| {
            let each = losses[a].iter().zip(&losses[b]).map(|(a, b)| a.total_cmp(b));
            each.fold(Ordering::Equal, Ordering::then).then(a.cmp(&b))
        };
        let rest = front.iter().filter(|one| !chosen.contains(one)).map(|one| (gain(*one), *one));
        let best = rest.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| order(b.1, a.1)));
        let Some((_, best)) = best else { break };
        points.push(losses[best].clone());
        chosen.push(best);
    }
    chosen
}

/// The volume that points dominate up to a reference, slice by slice along the last dimension.
pub(super) fn volume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let Some((end, inner)) = reference.split_last() else { return 0.0 };
    let last = inner.len();
    if inner.is_empty() {
        let least = points.iter().map(|point| point[0]).fold(*end, f64::min);
        return end - least;
    }
    let mut sorted: Vec<&Vec<f64>> = points.iter().filter(|point| point[last] < *end).collect();
    sorted.sort_by(|a, b| a[last].total_cmp(&b[last]));
    let mut sum = 0.0;
    for (index, point) in sorted.iter().enumerate() {
        let next = sorted.get(index + 1).map_or(*end, |next| next[last]);
        if next > point[last] {
            let below: Vec<Vec<f64>> = sorted[..=index].iter().map(|point| point[..last].to_vec()).collect();
            sum += (next - point[last]) * volume(&below, inner);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_of_steps_and_boxes() {
        assert_eq!(volume(&[vec![1.0, 2.0], vec![2.0, 1.0]], &[3.0, 3.0]), 3.0);
        assert_eq!(volume(&[vec![0.0, 0.0, 0.0]], &[2.0, 3.0, 4.0]), 24.0);
        assert_eq!(volume(&[vec![0.0, 1.0, 1.0], vec![1.0, 0.0, 0.0]], &[2.0, 2.0, 2.0]), 5.0);
        assert_eq!(volume(&[], &[1.0, 1.0]), 0.0);
    }
}
