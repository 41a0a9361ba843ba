//! Several transforms, one after the other.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Transform;
use crate::data::{Sample, SampleRng};
use crate::registry::descriptor::Problem;
use crate::registry::{Component, Contract, Kind, Nested, PortKind, Problems, TransformKind};
use crate::run::build::parse_nested;
use crate::run::{BuildContext, Instance};

/// Several transforms, one after the other.
///
/// Steps that act on whole batches (mixup) do so when the batch is made, after all steps have acted on its samples.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    /// The transforms, each a table with its own `type`.
    pub steps: Vec<Nested<TransformKind>>,
}

impl Component for Compose {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "compose";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "compose"
steps = [{ type = "resize", size = 512 }, { type = "random_horizontal_flip", p = 0.5 }]
"#;

    fn contract(&self) -> Contract {
        // A step that cannot be read says so in `check`.
        let steps = self.steps.iter().filter_map(|step| parse_nested(Kind::Transform, step.table.clone()).ok());
        steps.fold(Contract::default(), |all, step| all.then(&step.contract()))
    }

    fn check(&self, problems: &mut Problems) {
        for (i, step) in self.steps.iter().enumerate() {
            match parse_nested(Kind::Transform, step.table.clone()) {
                Err(error) => {
                    let help = "`pipe components` lists the transforms and their options";
                    problems.at(&format!("steps.{i}"), format!("{error:#}"), help);
                }
                Ok(component) => {
                    let mut inner = Problems::default();
                    component.check(&mut inner);
                    problems.found.extend(inner.found.into_iter().map(|problem| {
                        let path = ["steps".to_owned(), i.to_string()].into_iter().chain(problem.path).collect();
                        Problem { path, ..problem }
                    }));
                }
            }
        }
    }

    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let step = |(i, nested)| {
            let built = ctx.nested(nested).with_context(|| format!("step {i} of {}", ctx.node))?;
            <dyn Transform>::from_instance(&built).ok_or_else(|| anyhow!("step {i} of {} is no transform", ctx.node))
        };
        let steps = self.steps.iter().enumerate().map(step).collect::<Result<_>>()?;
        Ok(Instance::transform(Steps(steps)))
    }
}

crate::register!(Compose);

/// Built steps; see [`Compose`].
pub struct Steps(pub Vec<Arc<dyn Transform>>);

impl Transform for Steps {
    fn apply(&self, sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        self.0.iter().try_fold(sample, |sample, step| step.apply(sample, rng))
    }

    fn apply_batch(&self, samples: Vec<Sample>, rng: &mut SampleRng) -> Result<Vec<Sample>> {
        self.0.iter().try_fold(samples, |samples, step| step.apply_batch(samples, rng))
    }
}

#[cfg(test)]
mod tests {
    use crate::components::transform::testing::{problems, transformed};
    use serde_json::json;

    #[test]
    fn steps_follow_one_another() {
        let steps = json!([{ "type": "center_crop", "size": 2 }, { "type": "resize", "size": [4, 6] }]);
        let sample = transformed("compose", json!({ "steps": steps }), 0);
        assert_eq!((sample.image().unwrap().height, sample.image().unwrap().width), (4, 6));
    }

    #[test]
    fn a_wrong_step_is_named() {
        let found = problems("compose", json!({ "steps": [{ "type": "resize", "size": 8 }, { "type": "resise" }] }));
        assert_eq!(found, ["steps.1: there is no transform of type `resise`"]);
        let found = problems("compose", json!({ "steps": [{ "type": "resize" }] }));
        assert_eq!(found, ["steps.0: set either `size` or `short_side`"]);
    }
}
