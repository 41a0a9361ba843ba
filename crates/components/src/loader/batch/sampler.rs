//! Which samples make an epoch, where not each comes once.

use anyhow::{Context, Result};
use pipe_core::Dataset;
use pipe_data::sampling::{Sampling, class_frequencies, repeat_factors, sample_weights};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the samples of an epoch are chosen, in a new random order every epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampler {
    /// Draws samples with replacement, each with a probability in proportion to the weight of its class; to the largest, where its
    /// objects have several, and to the smallest of all, where it has none.
    Weighted {
        /// Weight of each class, by label. Default: the inverse of its frequency, so that classes of images come equally often.
        #[schemars(inner(range(min = 0)))]
        #[serde(default)]
        class_weights: Vec<f64>,
        /// Samples of an epoch. Default: as many as the dataset has.
        #[schemars(range(min = 1))]
        #[serde(default)]
        num_samples: Option<usize>,
    },
    /// Repeats images with rare classes (Gupta et al. 2019). A class that is in the fraction `f` of the images has the factor
    /// `max(1, sqrt(threshold / f))`, an image the largest of its classes'; the fraction of a factor is the probability of
    /// once more. The factors are Detectron2's; every epoch has as many samples.
    RepeatFactor {
        /// Classes in a smaller fraction of the images than this are repeated.
        #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
        threshold: f64,
    },
}

impl Sampler {
    /// The samples of epochs over `dataset`, called `name`.
    ///
    /// # Errors
    /// When it does not know its classes, or one has no weight.
    pub fn of(&self, dataset: &dyn Dataset, name: &str) -> Result<Sampling> {
        let classes = |index| {
            dataset.classes(index).with_context(|| {
                format!("{name} does not know the classes of its samples in advance; remove `sampler` from the loader")
            })
        };
        let classes: Vec<Vec<i64>> = (0..dataset.len()).map(classes).collect::<Result<_>>()?;
        match self {
            Sampler::RepeatFactor { threshold } => {
                Ok(Sampling::Repeated { factors: repeat_factors(&classes, *threshold).into() })
            }
            Sampler::Weighted { class_weights, num_samples } => {
                let frequencies = class_frequencies(&classes);
                let weight = |class: i64| match class_weights.is_empty() {
                    true => frequencies.get(&class).map(|frequency| 1.0 / frequency),
                    false => class_weights.get(usize::try_from(class).ok()?).copied(),
                };
                let smallest = frequencies.keys().filter_map(|class| weight(*class)).reduce(f64::min).unwrap_or(1.0);
                let weights = sample_weights(&classes, weight, smallest)
                    .with_context(|| format!("sampler.class_weights has {} weights", class_weights.len()))?;
                Sampling::weighted(&weights, num_samples.unwrap_or(classes.len())).context("sampler.class_weights")
            }
        }
    }
}
