//! The image on a larger canvas.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use rand::Rng;

use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems};
use pipe_data::geometry::Window;
use pipe_data::random::{between, chance};
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Places the image at a random location on a larger canvas, with probability `p`: SSD's augmentation for small objects.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomZoomOut {
    /// Fill value of the canvas: one value for all channels, or one per channel, as bytes 0..255 (0..1 after `to_float`).
    #[serde(default)]
    pub fill: Vec<f32>,
    /// Minimum and maximum side of the canvas, as a multiple of the image's side.
    #[serde(default = "sides")]
    pub side_range: [f64; 2],
    /// Probability of applying it.
    #[schemars(range(min = 0, max = 1))]
    #[serde(default = "half")]
    pub p: f64,
}

fn sides() -> [f64; 2] {
    [1.0, 4.0]
}

fn half() -> f64 {
    0.5
}

impl Config for RandomZoomOut {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_zoom_out";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_zoom_out"
fill = [123, 117, 104]
"#;

    fn facts(&self) -> Facts {
        Facts { random: self.p > 0.0, resizes: true, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        let [low, high] = self.side_range;
        if !(1.0 <= low && low <= high) {
            problems.at(
                "side_range",
                "`side_range` must be `[min, max]` with both at least 1",
                "for example `[1.0, 4.0]`",
            );
        }
    }
}

impl Component for RandomZoomOut {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomZoomOut);

impl Transform for RandomZoomOut {
    fn largest(&self, extent: Extent) -> Extent {
        let factor = if self.p > 0.0 { self.side_range[1].max(1.0) } else { 1.0 };
        extent.resized([extent.height, extent.width].map(|side| (side as f64 * factor) as usize))
    }

    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        if !chance(rng, self.p) {
            return Ok(sample);
        }
        let (old_height, old_width) = geometry::size(&sample)?;
        let factor = between(rng, self.side_range);
        let (height, width) = ((old_height as f64 * factor) as usize, (old_width as f64 * factor) as usize);
        let mut place = |free: usize| -((free as f64 * rng.random::<f64>()) as i64);
        let (left, top) = (place(width - old_width), place(height - old_height));
        geometry::crop(&mut sample, Window { top, left, height, width }, &self.fill)?;
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::testing::{assert_consistent, boxes, problems, sample, transformed};
    use serde_json::json;

    #[test]
    fn the_canvas_holds_everything() {
        for i in 0..10 {
            let zoomed = transformed("random_zoom_out", json!({ "p": 1.0 }), i);
            assert_consistent(&zoomed);
            let size = |b: &[f32; 4]| (b[2] - b[0], b[3] - b[1]);
            let (now, before) = (boxes(&zoomed), boxes(&sample()));
            assert_eq!(now.iter().map(size).collect::<Vec<_>>(), before.iter().map(size).collect::<Vec<_>>());
            assert!(zoomed.image().unwrap().height <= 24);
        }
        let found = problems("random_zoom_out", json!({ "side_range": [0.5, 2] }));
        assert_eq!(found, ["side_range: `side_range` must be `[min, max]` with both at least 1"]);
    }
}
