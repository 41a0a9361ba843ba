//! Histograms with the default buckets of `torch.utils.tensorboard`.
//!
//! The edges grow by a tenth from 1e-12 to 1e20 on both sides of zero, so that one fixed set of buckets serves weights,
//! gradients and activations alike (`SummaryWriter.default_bins`, which follows TensorFlow's `histogram.cc`).

use std::sync::LazyLock;

/// Bucket edges in ascending order, `[1549]`.
static EDGES: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let positive: Vec<f64> =
        std::iter::successors(Some(1e-12), |edge| Some(edge * 1.1)).take_while(|&edge| edge < 1e20).collect();
    let negative = positive.iter().rev().map(|edge| -edge);
    negative.chain([0.0]).chain(positive.iter().copied()).collect()
});

/// The counts and moments of a set of finite values: TensorBoard's `HistogramProto`.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// How many finite values there are.
    pub num: u64,
    /// The sum of the values.
    pub sum: f64,
    /// The sum of the squared values.
    pub sum_squares: f64,
    /// The right edge of each bucket, ascending, `[B]`.
    pub bucket_limits: Vec<f64>,
    /// The number of values of each bucket, `[B]`; the first is an empty bucket whose limit is the left edge of the second.
    pub bucket_counts: Vec<f64>,
}

impl Histogram {
    /// Counts `values` into the default buckets. NaN and infinite values are skipped; `None` when nothing else is there.
    ///
    /// For finite values the result is that of `SummaryWriter.add_histogram`: a value on an edge counts to the right of it,
    /// values beyond ±1e20 are in the moments but in no bucket, and empty buckets on both ends are dropped.
    pub fn of(values: &[f32]) -> Option<Self> {
        let edges = EDGES.as_slice();
        let last = edges.len() - 1;
        let mut counts = vec![0u64; last];
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut num, mut sum, mut sum_squares) = (0u64, 0.0, 0.0);
        for value in values.iter().filter(|value| value.is_finite()).map(|&value| f64::from(value)) {
            (min, max) = (min.min(value), max.max(value));
            num += 1;
            sum += value;
            sum_squares += value * value;
            // The edges at or below the value: bucket i spans [edges[i], edges[i + 1]).
            let at_or_below = edges.partition_point(|&edge| edge <= value);
            if value == edges[last] {
                counts[last - 1] += 1;
            } else if at_or_below > 0 && at_or_below <= last {
                counts[at_or_below - 1] += 1;
            }
        }
        if num == 0 {
            return None;
        }
        let (bucket_limits, bucket_counts) = support(edges, &counts).unwrap_or((vec![max], vec![num as f64]));
        Some(Self { min, max, num, sum, sum_squares, bucket_limits, bucket_counts })
    }
}

/// The buckets from the first to the last occupied one, after an empty bucket that carries the leftmost edge: only right
/// edges are stored. `None` when every bucket is empty.
fn support(edges: &[f64], counts: &[u64]) -> Option<(Vec<f64>, Vec<f64>)> {
    let first = counts.iter().position(|&count| count > 0)?;
    let last = counts.iter().rposition(|&count| count > 0)?;
    let occupied = counts[first..=last].iter().map(|&count| count as f64);
    let bucket_counts = std::iter::once(0.0).chain(occupied).collect();
    Some((edges[first..=last + 1].to_vec(), bucket_counts))
}
