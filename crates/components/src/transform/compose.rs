//! A sequence of transforms.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::{Among, Transform};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Nested, PortKind, TransformKind};
use pipe_data::{Extent, Sample, SampleRng};

/// Applies several transforms in sequence.
///
/// Steps that act on whole batches (mixup) run when the batch is assembled, after all steps have been applied to its samples.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    /// The transforms, each a table with its own `type`.
    pub steps: Vec<Nested<TransformKind>>,
}

impl Config for Compose {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "compose";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "compose"
steps = [{ type = "resize", size = 512 }, { type = "random_horizontal_flip", p = 0.5 }]
"#;
}

impl Component for Compose {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(Steps::new(&self.steps, "step", ctx)?))
    }
}

/// Builds transforms that are written in place; `what` one of them is, for messages.
pub(super) fn built(
    nested: &[Nested<TransformKind>],
    what: &str,
    ctx: &mut BuildContext<'_>,
) -> Result<Vec<Arc<dyn Transform>>> {
    let build = |(i, nested)| {
        let built = ctx.nested(nested).with_context(|| format!("{what} {i} of {}", ctx.node))?;
        <dyn Transform>::from_instance(&built).ok_or_else(|| anyhow!("{what} {i} of {} is not a transform", ctx.node))
    };
    nested.iter().enumerate().map(build).collect()
}

pipe_core::register!(Compose);

/// Built steps by their component's name; see [`Compose`].
pub struct Steps(pub Vec<(String, Arc<dyn Transform>)>);

impl Steps {
    /// Builds transforms that are written in place; `what` one of them is, for messages.
    ///
    /// # Errors
    /// When one cannot be built.
    pub(super) fn new(nested: &[Nested<TransformKind>], what: &str, ctx: &mut BuildContext<'_>) -> Result<Steps> {
        let name = |nested: &Nested<TransformKind>| Some(nested.table.get("type")?.as_str()?.to_owned());
        let names = nested.iter().map(|nested| name(nested).unwrap_or_default());
        Ok(Steps(names.zip(built(nested, what, ctx)?).collect()))
    }

    fn each(&self) -> impl Iterator<Item = &dyn Transform> {
        self.0.iter().map(|(_, step)| &**step)
    }
}

impl Transform for Steps {
    fn steps(&self) -> Vec<(&str, &dyn Transform)> {
        self.0.iter().map(|(name, step)| (name.as_str(), &**step)).collect()
    }

    fn on_samples(&self) -> bool {
        self.each().any(|step| step.on_samples())
    }

    fn on_batches(&self) -> bool {
        self.each().any(|step| step.on_batches())
    }

    fn largest(&self, extent: Extent) -> Extent {
        self.each().fold(extent, |extent, step| step.largest(extent))
    }

    fn largest_among(&self, extent: Extent, most: Extent) -> Extent {
        // What the dataset has most of passes through the steps too.
        let pair = self.each().fold((extent, most), |(extent, most), step| {
            (step.largest_among(extent, most), step.largest_among(most, most))
        });
        pair.0
    }

    fn apply_among(&self, sample: Sample, among: Among<'_>, rng: &mut SampleRng) -> Result<Sample> {
        self.each().try_fold(sample, |sample, step| step.apply_among(sample, among, rng))
    }

    fn apply(&self, sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        self.each().try_fold(sample, |sample, step| step.apply(sample, rng))
    }

    fn apply_batch(&self, samples: Vec<Sample>, rng: &mut SampleRng) -> Result<Vec<Sample>> {
        self.each().try_fold(samples, |samples, step| step.apply_batch(samples, rng))
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::testing::transformed;
    use serde_json::json;

    #[test]
    fn steps_follow_one_another() {
        let steps = json!([{ "type": "center_crop", "size": 2 }, { "type": "resize", "size": [4, 6] }]);
        let sample = transformed("compose", json!({ "steps": steps }), 0);
        assert_eq!((sample.image().unwrap().height, sample.image().unwrap().width), (4, 6));
    }
}
