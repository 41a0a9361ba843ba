//! Resizing to a fixed size, or by the shorter side.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Size2d};
use pipe_data::geometry::Interpolation;
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Resizes the image, together with its boxes, masks, keypoints and areas.
///
/// Either to a fixed `size`, or so that the shorter side is `short_side` pixels and the longer at most `max_size`, keeping
/// the aspect ratio. Images are antialiased; masks and per-pixel classes use nearest-neighbor interpolation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Height and width: `[height, width]`, or one number for a square.
    #[serde(default)]
    pub size: Option<Size2d>,
    /// Length of the shorter side in pixels.
    #[schemars(range(min = 1, max = 16_384))]
    #[serde(default)]
    pub short_side: Option<usize>,
    /// Maximum length of the longer side in pixels; only with `short_side`.
    #[schemars(range(min = 1, max = 16_384))]
    #[serde(default)]
    pub max_size: Option<usize>,
    /// Interpolation mode.
    #[serde(default)]
    pub interpolation: Interpolation,
}

impl Config for Resize {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "resize";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "resize"
size = 512
"#;

    fn facts(&self) -> Facts {
        Facts { resizes: true, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        if self.size.is_some() == self.short_side.is_some() {
            problems.at("", "set either `size` or `short_side`", "for example `size = 512` or `short_side = 800`");
        }
        if self.max_size.is_some() && self.short_side.is_none() {
            problems.at("max_size", "`max_size` can only be used with `short_side`", "remove it, or set `short_side`");
        }
    }
}

impl Component for Resize {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(Resize);

impl Resize {
    fn new_size(&self, (height, width): (usize, usize)) -> (usize, usize) {
        match (self.size, self.short_side) {
            (Some(size), _) => (size.height as usize, size.width as usize),
            (None, Some(short)) => by_short_side((height, width), short, self.max_size),
            (None, None) => (height, width),
        }
    }
}

impl Transform for Resize {
    fn largest(&self, extent: Extent) -> Extent {
        let (height, width) = self.new_size((extent.height, extent.width));
        extent.resized([height, width])
    }

    fn apply(&self, mut sample: Sample, _rng: &mut SampleRng) -> Result<Sample> {
        let (height, width) = self.new_size(geometry::size(&sample)?);
        geometry::resize(&mut sample, height, width, self.interpolation)?;
        Ok(sample)
    }
}

/// Height and width with the shorter side at `short`, the longer at most `max`; as in torchvision's `resize` with one number.
pub(super) fn by_short_side((height, width): (usize, usize), short: usize, max: Option<usize>) -> (usize, usize) {
    let (shorter, longer) = (height.min(width).max(1), height.max(width));
    let mut new = (short, short.saturating_mul(longer) / shorter);
    if let Some(max) = max
        && new.1 > max
    {
        new = (max.saturating_mul(new.0) / new.1, max);
    }
    let new = (new.0.max(1), new.1.max(1));
    if height <= width { new } else { (new.1, new.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{assert_consistent, boxes, problems, transformed};
    use pipe_data::Field;
    use pipe_data::random::{Purpose, stream};
    use serde_json::json;

    #[test]
    fn everything_is_scaled() {
        let sample = transformed("resize", json!({ "size": [12, 24] }), 0);
        assert_consistent(&sample);
        assert_eq!(boxes(&sample), [[0.0, 0.0, 9.0, 4.0], [12.0, 6.0, 24.0, 12.0]]);
        assert_eq!(
            sample.get(fields::KEYPOINTS),
            Some(&Field::Keypoints(vec![vec![[3.0, 2.0, 2.0]], vec![[15.0, 8.0, 2.0]]]))
        );
        assert_eq!(sample.get(fields::ORIGINAL_SIZE), Some(&Field::Size([6, 8])), "says what lies on disk");
    }

    /// Sizes of `torchvision.transforms.v2.functional.resize(size=[short], max_size=…)`.
    #[test]
    fn the_short_side_decides() {
        assert_eq!(by_short_side((480, 640), 800, Some(1333)), (800, 1066));
        assert_eq!(by_short_side((640, 480), 800, Some(1333)), (1066, 800));
        assert_eq!(by_short_side((333, 999), 800, Some(1333)), (444, 1333));
        assert_eq!(by_short_side((100, 100), 7, None), (7, 7));
    }

    #[test]
    fn no_size_takes_all_memory() {
        let wrong = serde_json::from_value::<Resize>(json!({ "size": [200_000, 200_000] })).unwrap_err();
        assert!(wrong.to_string().contains("1 to 16384"), "{wrong}");
        // A row of pixels, whose short side would be made 800 times as long.
        let row = pipe_data::Image::from_u8(1, 60_000, 3, vec![0; 180_000]);
        let sample = Sample::new().with(fields::IMAGE, Field::Image(row));
        let resize: Resize = serde_json::from_value(json!({ "short_side": 800 })).unwrap();
        let error = resize.apply(sample, &mut stream(1, Purpose::Sample, 0, 0)).unwrap_err().to_string();
        assert!(error.contains("800 × 48000000 pixels"), "{error}");
    }

    #[test]
    fn options_that_exclude_each_other_are_found() {
        assert_eq!(problems("resize", json!({ "size": 4, "short_side": 3 })), [": set either `size` or `short_side`"]);
        assert_eq!(
            problems("resize", json!({ "size": 4, "max_size": 3 })),
            ["max_size: `max_size` can only be used with `short_side`"]
        );
    }
}
