//! Transforms by chance.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compose::Steps;
use pipe_core::facts::Facts;
use pipe_core::{Among, Transform};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Nested, TransformKind};
use pipe_data::random::chance;
use pipe_data::{Extent, Sample, SampleRng};

/// Applies several transforms in sequence with probability `p`, and otherwise none of them (torchvision's `RandomApply`).
///
/// Of those that act on whole batches (mixup), it is decided for each batch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomApply {
    /// The transforms, each a table with its own `type`.
    pub transforms: Vec<Nested<TransformKind>>,
    /// Probability of applying them.
    #[schemars(range(min = 0, max = 1))]
    #[serde(default = "half")]
    pub p: f64,
}

fn half() -> f64 {
    0.5
}

impl Config for RandomApply {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_apply";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_apply"
transforms = [{ type = "gaussian_blur", kernel_size = 5 }]
p = 0.2
"#;

    fn facts(&self) -> Facts {
        Facts { random: self.p > 0.0 && self.p < 1.0, ..Facts::default() }
    }
}

impl Component for RandomApply {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let steps = Steps::new(&self.transforms, "transform", ctx)?;
        Ok(Instance::transform(Maybe { steps, p: self.p }))
    }
}

pipe_core::register!(RandomApply);

/// See [`RandomApply`].
struct Maybe {
    steps: Steps,
    p: f64,
}

impl Transform for Maybe {
    fn on_samples(&self) -> bool {
        self.steps.on_samples()
    }

    fn on_batches(&self) -> bool {
        self.steps.on_batches()
    }

    fn largest(&self, extent: Extent) -> Extent {
        self.largest_among(extent, extent)
    }

    fn largest_among(&self, extent: Extent, most: Extent) -> Extent {
        match self.p {
            0.0 => extent,
            1.0 => self.steps.largest_among(extent, most),
            _ => extent.or(self.steps.largest_among(extent, most)),
        }
    }

    fn apply(&self, sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        if chance(rng, self.p) { self.steps.apply(sample, rng) } else { Ok(sample) }
    }

    fn apply_among(&self, sample: Sample, among: Among<'_>, rng: &mut SampleRng) -> Result<Sample> {
        if chance(rng, self.p) { self.steps.apply_among(sample, among, rng) } else { Ok(sample) }
    }

    fn apply_batch(&self, samples: Vec<Sample>, rng: &mut SampleRng) -> Result<Vec<Sample>> {
        if chance(rng, self.p) { self.steps.apply_batch(samples, rng) } else { Ok(samples) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{build, sample, transformed};
    use serde_json::json;

    #[test]
    fn all_or_none() {
        let steps = json!([{ "type": "center_crop", "size": 4 }, { "type": "to_float" }]);
        let config = json!({ "transforms": steps, "p": 0.25 });
        let changed = (0..400).filter(|i| {
            let sample = transformed("random_apply", config.clone(), *i);
            let image = sample.image().unwrap();
            let (small, float) = (image.height == 4, matches!(image.pixels, pipe_data::Pixels::F32(_)));
            assert_eq!(small, float);
            small
        });
        let changed = changed.count() as i32;
        assert!((changed - 100).abs() < 35, "{changed}");
        let never = json!({ "transforms": steps, "p": 0.0 });
        assert_eq!(transformed("random_apply", never, 0), sample());
        let largest = build("random_apply", config).largest(Extent { height: 6, width: 2, objects: 2 });
        assert_eq!((largest.height, largest.width), (6, 4));
    }
}
