//! One of several transforms.

use std::sync::Arc;

use anyhow::Result;
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compose::built;
use pipe_core::facts::Facts;
use pipe_core::{Among, Transform};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Nested, Problems, TransformKind};
use pipe_data::{Extent, Sample, SampleRng};

/// Applies one of several transforms, chosen at random for each sample (torchvision's `RandomChoice`).
///
/// Of those that act on whole batches (mixup), one is chosen for each batch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The transforms, each a table with its own `type`.
    #[schemars(length(min = 1))]
    pub transforms: Vec<Nested<TransformKind>>,
    /// How probable each is, in proportion to the others. Default: all alike.
    #[schemars(inner(range(min = 0)))]
    #[serde(default)]
    pub p: Vec<f64>,
}

impl Config for Choice {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "choice";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "choice"
transforms = [{ type = "gaussian_blur", kernel_size = 5 }, { type = "gaussian_noise" }]
p = [0.7, 0.3]
"#;

    fn facts(&self) -> Facts {
        Facts { random: self.transforms.len() > 1, ..Facts::default() }
    }

    fn check(&self, problems: &mut Problems) {
        if !self.p.is_empty() && (self.p.len() != self.transforms.len() || self.p.iter().sum::<f64>() <= 0.0) {
            let message = format!("{} transforms need as many probabilities, not all of them 0", self.transforms.len());
            problems.at("p", message, "give one number for each, or remove `p`");
        }
    }
}

impl Component for Choice {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let transforms = built(&self.transforms, "transform", ctx)?;
        let p = if self.p.is_empty() { vec![1.0; transforms.len()] } else { self.p };
        Ok(Instance::transform(OneOf { transforms, p }))
    }
}

pipe_core::register!(Choice);

/// See [`Choice`].
struct OneOf {
    transforms: Vec<Arc<dyn Transform>>,
    p: Vec<f64>,
}

impl OneOf {
    fn choose(&self, rng: &mut SampleRng) -> &dyn Transform {
        let mut rest = rng.random::<f64>() * self.p.iter().sum::<f64>();
        let chosen = self.p.iter().position(|p| {
            rest -= p;
            rest < 0.0
        });
        // Rounding may leave a rest behind the last.
        let last = || self.p.iter().rposition(|p| *p > 0.0).unwrap_or(0);
        &*self.transforms[chosen.unwrap_or_else(last)]
    }
}

impl Transform for OneOf {
    fn on_samples(&self) -> bool {
        self.transforms.iter().any(|transform| transform.on_samples())
    }

    fn on_batches(&self) -> bool {
        self.transforms.iter().any(|transform| transform.on_batches())
    }

    fn largest(&self, extent: Extent) -> Extent {
        self.largest_among(extent, extent)
    }

    fn largest_among(&self, extent: Extent, most: Extent) -> Extent {
        let each = self.transforms.iter().map(|transform| transform.largest_among(extent, most));
        each.reduce(Extent::or).unwrap_or(extent)
    }

    fn apply(&self, sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        self.choose(rng).apply(sample, rng)
    }

    fn apply_among(&self, sample: Sample, among: Among<'_>, rng: &mut SampleRng) -> Result<Sample> {
        self.choose(rng).apply_among(sample, among, rng)
    }

    fn apply_batch(&self, samples: Vec<Sample>, rng: &mut SampleRng) -> Result<Vec<Sample>> {
        self.choose(rng).apply_batch(samples, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{build, problems, transformed};
    use serde_json::json;

    #[test]
    fn each_is_chosen_as_often_as_it_is_probable() {
        let steps = json!([1, 2, 3].map(|size| json!({ "type": "center_crop", "size": size })));
        let config = json!({ "transforms": steps, "p": [2, 0, 6] });
        let mut counts = [0; 4];
        (0..400).for_each(|i| counts[transformed("choice", config.clone(), i).image().unwrap().height] += 1);
        assert_eq!(counts[0] + counts[2], 0);
        assert!((counts[1] - 100i32).abs() < 35, "{counts:?}");
        let largest = build("choice", config).largest(Extent { height: 6, width: 8, objects: 2 });
        assert_eq!((largest.height, largest.width), (3, 3));
        let found = problems("choice", json!({ "transforms": [{ "type": "to_float" }], "p": [1, 1] }));
        assert_eq!(found, ["p: 1 transforms need as many probabilities, not all of them 0"]);
    }
}
