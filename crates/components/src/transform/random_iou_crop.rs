//! Random crop with a minimum IoU with some object.

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use rand::Rng;
use rand::seq::IndexedRandom;

use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems};
use pipe_data::geometry::Window;
use pipe_data::random::between;
use pipe_data::{Field, Sample, SampleRng, fields, geometry};

/// Randomly crops with a minimum IoU with some object; objects whose center is outside the crop are dropped.
///
/// As for SSD (Liu et al. 2016, section 2.2), with the procedure of torchvision's `RandomIoUCrop`. An image without
/// objects stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomIouCrop {
    /// Minimum side of the crop, as a fraction of the image's side.
    #[schemars(range(min = 0, max = 1))]
    #[serde(default = "min_scale")]
    pub min_scale: f64,
    /// Maximum side of the crop, as a fraction of the image's side.
    #[schemars(range(min = 0, max = 1))]
    #[serde(default = "max_scale")]
    pub max_scale: f64,
    /// Minimum and maximum aspect ratio (width / height) of the crop.
    #[serde(default = "aspect_ratio")]
    pub aspect_ratio: [f64; 2],
    /// Minimum IoUs to choose from; 1 or more means no crop.
    #[schemars(length(min = 1))]
    #[serde(default = "options")]
    pub options: Vec<f64>,
    /// Attempts before another IoU is chosen.
    #[schemars(range(min = 1))]
    #[serde(default = "trials")]
    pub trials: usize,
}

fn min_scale() -> f64 {
    0.3
}

fn max_scale() -> f64 {
    1.0
}

fn aspect_ratio() -> [f64; 2] {
    [0.5, 2.0]
}

fn options() -> Vec<f64> {
    vec![0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
}

fn trials() -> usize {
    40
}

/// IoUs chosen before the image is left uncropped; without a bound, options that are all below 1 might never be met.
const ROUNDS: usize = 50;

impl Config for RandomIouCrop {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_iou_crop";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_iou_crop"
options = [0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
"#;

    fn facts(&self) -> Facts {
        Facts { random: true, resizes: true, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE, fields::BOXES])
    }

    fn check(&self, problems: &mut Problems) {
        if self.min_scale > self.max_scale {
            problems.at("min_scale", "`min_scale` is above `max_scale`", "for example 0.3 and 1.0");
        }
        let [low, high] = self.aspect_ratio;
        if !(0.0 < low && low <= high) {
            problems.at(
                "aspect_ratio",
                "`aspect_ratio` must be `[min, max]` with both above 0",
                "for example `[0.5, 2.0]`",
            );
        }
    }
}

impl Component for RandomIouCrop {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomIouCrop);

impl Transform for RandomIouCrop {
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let size = geometry::size(&sample)?;
        let Some(Field::Boxes(boxes)) = sample.get(fields::BOXES) else {
            bail!("random_iou_crop needs boxes, and {} has none", sample.source());
        };
        if let Some((window, inside)) = self.draw(size, boxes, rng) {
            sample.keep_instances(&inside);
            geometry::crop(&mut sample, window, &[])?;
        }
        Ok(sample)
    }
}

impl RandomIouCrop {
    /// A crop, and which boxes have their center in it; `None` for the whole image.
    fn draw(&self, size: (usize, usize), boxes: &[[f32; 4]], rng: &mut SampleRng) -> Option<(Window, Vec<bool>)> {
        if boxes.is_empty() {
            return None;
        }
        for _ in 0..ROUNDS {
            let least = self.options.choose(rng).copied().unwrap_or(1.0);
            if least >= 1.0 {
                return None;
            }
            let found = (0..self.trials).find_map(|_| {
                let window = self.window(size, rng)?;
                let inside: Vec<bool> = boxes.iter().map(|b| middle_inside(b, window)).collect();
                let overlaps = boxes.iter().zip(&inside).filter(|(_, inside)| **inside).map(|(b, _)| iou(b, window));
                let best = overlaps.fold(None, |best: Option<f32>, iou| Some(best.map_or(iou, |b| b.max(iou))))?;
                (f64::from(best) >= least).then_some((window, inside))
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn window(&self, (height, width): (usize, usize), rng: &mut SampleRng) -> Option<Window> {
        let range = [self.min_scale, self.max_scale];
        let w = (width as f64 * between(rng, range)) as usize;
        let h = (height as f64 * between(rng, range)) as usize;
        let [low, high] = self.aspect_ratio;
        if w == 0 || h == 0 || !(low..=high).contains(&(w as f64 / h as f64)) {
            return None;
        }
        let left = ((width - w) as f64 * rng.random::<f64>()) as i64;
        let top = ((height - h) as f64 * rng.random::<f64>()) as i64;
        Some(Window { top, left, height: h, width: w })
    }
}

fn edges(window: Window) -> [f32; 4] {
    let (left, top) = (window.left as f32, window.top as f32);
    [left, top, left + window.width as f32, top + window.height as f32]
}

fn middle_inside(b: &[f32; 4], window: Window) -> bool {
    let [left, top, right, bottom] = edges(window);
    let (x, y) = ((b[0] + b[2]) / 2.0, (b[1] + b[3]) / 2.0);
    left < x && x < right && top < y && y < bottom
}

fn iou(b: &[f32; 4], window: Window) -> f32 {
    let [left, top, right, bottom] = edges(window);
    let shared = (b[2].min(right) - b[0].max(left)).max(0.0) * (b[3].min(bottom) - b[1].max(top)).max(0.0);
    let both = (b[2] - b[0]) * (b[3] - b[1]) + (right - left) * (bottom - top);
    if both > shared { shared / (both - shared) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{apply, assert_consistent, sample, transformed};
    use pipe_data::random::{Purpose, stream};
    use serde_json::json;

    #[test]
    fn parts_keep_what_they_promise() {
        let config: RandomIouCrop = serde_json::from_value(json!({ "options": [0.3] })).unwrap();
        let boxes = [[10.0, 10.0, 60.0, 50.0], [70.0, 60.0, 95.0, 75.0]];
        let mut rng = stream(0, Purpose::Sample, 0, 0);
        let mut dropped = 0;
        for _ in 0..50 {
            let (window, inside) = config.draw((80, 100), &boxes, &mut rng).unwrap();
            let best = boxes.iter().zip(&inside).filter(|(_, i)| **i).map(|(b, _)| iou(b, window)).fold(0.0, f32::max);
            assert!(best >= 0.3, "{window:?}");
            assert!(window.left >= 0 && window.left as usize + window.width <= 100);
            assert!(window.top >= 0 && window.top as usize + window.height <= 80);
            dropped += inside.iter().filter(|inside| !**inside).count();
        }
        assert!(dropped > 10);
    }

    #[test]
    fn fields_follow_and_pictures_without_objects_stay() {
        for i in 0..20 {
            assert_consistent(&transformed("random_iou_crop", json!({ "options": [0.0, 0.1] }), i));
        }
        let mut empty = sample();
        empty.keep_instances(&[false, false]);
        assert_eq!(apply("random_iou_crop", json!({}), empty.clone(), 0), empty);
        assert_eq!(transformed("random_iou_crop", json!({ "options": [1.0] }), 0), sample());
        assert_eq!(
            transformed("random_iou_crop", json!({ "options": [0.99], "min_scale": 0.7 }), 0),
            sample(),
            "not met: the whole"
        );
    }
}
