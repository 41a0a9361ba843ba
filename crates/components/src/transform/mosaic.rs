//! Four images in one.

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::facts::Facts;
use pipe_core::{Among, Transform};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Size2d};
use pipe_data::geometry::{Interpolation, Part, Window, check_size, join};
use pipe_data::random::{between, chance, whole};
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Lays the image and three others of its dataset, drawn at random, around a random point of one image (Bochkovskiy et al. 2020,
/// as in MMDetection), with all their boxes, masks and keypoints.
///
/// Each image is resized to fit into half of `size` and laid with one corner at the point; what reaches beyond the border is
/// cut off. The others come from the dataset as they are, so it should be the first step. The id of the image stays.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mosaic {
    /// Height and width of the new image: `[height, width]`, or one number for a square.
    pub size: Size2d,
    /// Where the point lies at least and at most, as fractions of the height and the width.
    #[serde(default = "middle")]
    pub center_range: [f64; 2],
    /// Fill value where no image lies: one value for all channels, or one per channel, as bytes 0..255 (0..1 after `to_float`).
    #[serde(default = "gray")]
    pub fill: Vec<f32>,
    /// Probability of applying it.
    #[schemars(range(min = 0, max = 1))]
    #[serde(default = "always")]
    pub p: f64,
    /// The last epoch with it (a pass over the data), counted from 1; in later ones images stay as they are. Default: never ends.
    #[serde(default)]
    pub close_after: Option<u64>,
}

fn middle() -> [f64; 2] {
    [0.25, 0.75]
}

fn gray() -> Vec<f32> {
    vec![114.0]
}

fn always() -> f64 {
    1.0
}

impl Config for Mosaic {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "mosaic";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "compose"
steps = [
  { type = "mosaic", size = 640, close_after = 285 },
  { type = "random_horizontal_flip" },
]
"#;

    fn facts(&self) -> Facts {
        Facts { random: self.p > 0.0, resizes: true, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        let [low, high] = self.center_range;
        if !(0.0..=1.0).contains(&low) || !(low..=1.0).contains(&high) {
            problems.at("center_range", "the fractions must rise within 0 and 1", "for example `[0.25, 0.75]`");
        }
        if self.size.height < 2 || self.size.width < 2 {
            problems.at("size", "there is no room for four images", "for example 640");
        }
    }
}

impl Component for Mosaic {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        check_size(self.size.height as usize, self.size.width as usize).with_context(|| ctx.node.to_string())?;
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(Mosaic);

impl Mosaic {
    /// Four samples around a point.
    fn lay(&self, samples: Vec<Sample>, (center_y, center_x): (usize, usize)) -> Result<Sample> {
        let (height, width) = (self.size.height as usize, self.size.width as usize);
        let place = |(corner, mut sample): (usize, Sample)| {
            ensure!(
                sample.get(fields::LABEL).is_none(),
                "a mosaic is for images with objects or per-pixel classes; {} has one label for the whole image",
                sample.source()
            );
            let (old_height, old_width) = geometry::size(&sample)?;
            let scale = (height as f64 / 2.0 / old_height as f64).min(width as f64 / 2.0 / old_width as f64);
            let side = |old: usize| ((old as f64 * scale) as usize).max(1);
            let (new_height, new_width) = (side(old_height), side(old_width));
            geometry::resize(&mut sample, new_height, new_width, Interpolation::Bilinear)?;
            // To the left of the point and above it, an image ends there; elsewhere it begins there.
            let (above, before) = (corner < 2, corner % 2 == 0);
            let seen = |side: usize, ends: bool, center: usize, all: usize| {
                if ends { side.min(center) } else { side.min(all - center) }
            };
            let (seen_height, seen_width) =
                (seen(new_height, above, center_y, height), seen(new_width, before, center_x, width));
            let from = |side: usize, seen: usize, ends: bool| if ends { (side - seen) as i64 } else { 0 };
            let (top, left) = (from(new_height, seen_height, above), from(new_width, seen_width, before));
            geometry::crop(&mut sample, Window { top, left, height: seen_height, width: seen_width }, &self.fill)?;
            let top = if above { center_y - seen_height } else { center_y };
            let left = if before { center_x - seen_width } else { center_x };
            Ok(Part { sample, top, left })
        };
        join(samples.into_iter().enumerate().map(place).collect::<Result<_>>()?, height, width, &self.fill)
    }
}

impl Transform for Mosaic {
    fn largest(&self, extent: Extent) -> Extent {
        self.largest_among(extent, extent)
    }

    fn largest_among(&self, extent: Extent, most: Extent) -> Extent {
        let mosaic = Extent {
            height: self.size.height as usize,
            width: self.size.width as usize,
            objects: extent.objects + 3 * most.objects,
        };
        match (self.p, self.close_after) {
            (0.0, _) => extent,
            (1.0, None) => mosaic,
            // With and without it, there are images of both.
            _ => mosaic.or(extent),
        }
    }

    fn apply(&self, sample: Sample, _rng: &mut SampleRng) -> Result<Sample> {
        bail!("{}: a mosaic needs the other images of its dataset, so it works in a loader only", sample.source())
    }

    fn apply_among(&self, sample: Sample, among: Among<'_>, rng: &mut SampleRng) -> Result<Sample> {
        let closed = self.close_after.is_some_and(|last| among.epoch >= last);
        if closed || !chance(rng, self.p) {
            return Ok(sample);
        }
        let (height, width) = (self.size.height as usize, self.size.width as usize);
        let mut center = |side: usize| ((between(rng, self.center_range) * side as f64) as usize).min(side);
        let center = (center(height), center(width));
        let mut samples = vec![sample];
        for _ in 0..3 {
            let other = whole(rng, 0, among.dataset.len() as i64 - 1) as usize;
            samples.push(among.dataset.get(other)?);
        }
        self.lay(samples, center)
    }
}
