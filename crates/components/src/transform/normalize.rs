//! Normalization of pixel values.

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::{Facts, Normalization};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems};
use pipe_data::image::{Image, Pixels};
use pipe_data::{Sample, SampleRng, fields};

/// Converts pixels to floats in 0..1, subtracts the mean and divides by the standard deviation, per channel.
///
/// Detection models do this internally; classifiers need it as a step.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// Mean of each channel in 0..1, or one value for all channels.
    #[schemars(length(min = 1))]
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, or one value for all channels.
    #[schemars(length(min = 1))]
    pub std: Vec<f32>,
}

impl Config for Normalize {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "normalize";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "normalize"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
"#;

    fn facts(&self) -> Facts {
        let numbers = |all: &[f32]| all.iter().copied().map(f64::from).collect();
        let normalizes = Normalization { mean: numbers(&self.mean), std: numbers(&self.std) };
        Facts { normalizes: Some(normalizes), ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        if self.std.iter().any(|&s| s.is_nan() || s <= 0.0) {
            problems.at("std", "standard deviations must be above 0", "remove the channel, or use 1");
        }
        if self.mean.len() != self.std.len() {
            problems.at(
                "mean",
                "`mean` and `std` have different lengths",
                "give both a single value, or one per channel",
            );
        }
    }
}

impl Component for Normalize {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(Normalize);

impl Transform for Normalize {
    fn apply(&self, mut sample: Sample, _rng: &mut SampleRng) -> Result<Sample> {
        let channels = sample.image()?.channels;
        ensure!(
            [1, channels].contains(&self.mean.len()) && self.std.len() == self.mean.len(),
            "normalize has {} means and {} standard deviations, but {} has {channels} channels",
            self.mean.len(),
            self.std.len(),
            sample.source()
        );
        let image = sample.image_mut()?;
        *image = self.normalized(image);
        Ok(sample)
    }
}

impl Normalize {
    fn normalized(&self, image: &Image) -> Image {
        let channel = |i: usize| (self.mean[i % self.mean.len()], self.std[i % self.std.len()]);
        let pixels = match &image.pixels {
            Pixels::U8(bytes) => {
                // A lookup table for the 256 byte values: the same arithmetic as torchvision's, done 256 times per channel.
                let table = |(mean, std): (f32, f32)| -> [f32; 256] {
                    std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std)
                };
                let tables: Vec<[f32; 256]> = (0..image.channels).map(|c| table(channel(c))).collect();
                let pixel = |pixel: &[u8]| {
                    pixel.iter().zip(&tables).map(|(&v, table)| table[usize::from(v)]).collect::<Vec<_>>()
                };
                match &tables[..] {
                    [r, g, b] => {
                        let rgb = |&[x, y, z]: &[u8; 3]| [r[usize::from(x)], g[usize::from(y)], b[usize::from(z)]];
                        bytes.as_chunks::<3>().0.iter().flat_map(rgb).collect()
                    }
                    [gray] => bytes.iter().map(|&v| gray[usize::from(v)]).collect(),
                    _ => bytes.chunks_exact(image.channels).flat_map(pixel).collect(),
                }
            }
            Pixels::F32(values) => {
                let one = |(i, v): (usize, &f32)| {
                    let (mean, std) = channel(i % image.channels);
                    (v - mean) / std
                };
                values.iter().enumerate().map(one).collect()
            }
        };
        Image { pixels: Pixels::F32(pixels), ..*image }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{apply, build, problems, sample};
    use serde_json::json;

    #[test]
    fn bytes_and_floats_come_out_alike() {
        let config = json!({ "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225] });
        let from_bytes = apply("normalize", config.clone(), sample(), 0);
        let from_floats = apply("normalize", config, apply("to_float", json!({}), sample(), 0), 0);
        assert_eq!(from_bytes, from_floats);
        let Pixels::F32(values) = &from_bytes.image().unwrap().pixels else { panic!("bytes") };
        // Byte 5 of the second channel.
        assert!((values[1] - (5.0 / 255.0 - 0.456) / 0.224).abs() < 1e-6);
    }

    #[test]
    fn a_wrong_number_of_channels_is_an_error() {
        let transform = build("normalize", json!({ "mean": [0.5, 0.5], "std": [1.0, 1.0] }));
        let error =
            transform.apply(sample(), &mut pipe_data::random::stream(0, pipe_data::random::Purpose::Sample, 0, 0));
        assert!(error.unwrap_err().to_string().contains("2 means and 2 standard deviations"));
        assert_eq!(
            problems("normalize", json!({ "mean": [0.5], "std": [0.0] })),
            ["std: standard deviations must be above 0"]
        );
    }
}
