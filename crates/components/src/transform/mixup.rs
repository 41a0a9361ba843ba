//! Mixup of a batch.

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::random::normal;
use pipe_data::{Field, Image, Pixels, Sample, SampleRng, fields};

/// Blends each image of a batch with the one before it (Zhang et al. 2018; torchvision's `MixUp`). The label becomes the
/// probability of each class, which the losses of classes take as their target.
///
/// For classification. It acts on whole batches, after all transforms of single samples, which must have brought the images to one
/// size. Samples with boxes, masks or per-pixel classes are refused: their objects cannot be half there; use `mosaic`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mixup {
    /// Number of classes: that of the model.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub num_classes: usize,
    /// The share of an image is drawn from Beta(alpha, alpha): the smaller, the less is mixed.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[serde(default = "one")]
    pub alpha: f64,
}

fn one() -> f64 {
    1.0
}

impl Config for Mixup {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "mixup";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "image_folder"
root = "data/train"

[transform.train]
type = "compose"
steps = [
  { type = "random_resized_crop", size = 224 },
  { type = "mixup", alpha = 0.2, num_classes = "dataset.train:num_classes" },
]
"#;

    fn facts(&self) -> Facts {
        Facts { random: true, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE, fields::LABEL])
    }
}

impl Component for Mixup {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(Mixup);

impl Transform for Mixup {
    fn on_samples(&self) -> bool {
        false
    }

    fn on_batches(&self) -> bool {
        true
    }

    fn apply_batch(&self, samples: Vec<Sample>, rng: &mut SampleRng) -> Result<Vec<Sample>> {
        mixed(samples, share(rng, self.alpha) as f32, self.num_classes)
    }
}

/// A number from Beta(alpha, alpha): the part that the first of two numbers from Gamma(alpha) has in their sum.
fn share(rng: &mut SampleRng, alpha: f64) -> f64 {
    let [own, other] = [ln_gamma(rng, alpha), ln_gamma(rng, alpha)];
    1.0 / (1.0 + (other - own).exp())
}

/// The logarithm of a number from Gamma(alpha), which itself may be too small for a float (Marsaglia and Tsang 2000).
fn ln_gamma(rng: &mut SampleRng, alpha: f64) -> f64 {
    let d = alpha + 1.0 - 1.0 / 3.0;
    loop {
        let x = normal(rng);
        let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
        let u = 1.0 - rng.random::<f64>();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            // From alpha + 1 to alpha.
            return (d * v).ln() + (1.0 - rng.random::<f64>()).ln() / alpha;
        }
    }
}

/// The samples, each with this share of its own and the rest of the one before it, the first of the last.
fn mixed(samples: Vec<Sample>, share: f32, classes: usize) -> Result<Vec<Sample>> {
    let labels = samples.iter().map(|sample| one_hot(sample, classes)).collect::<Result<Vec<_>>>()?;
    let images = samples.iter().map(|sample| sample.image().cloned()).collect::<Result<Vec<Image>>>()?;
    let before = |i: usize| (i + samples.len() - 1) % samples.len();
    let mut mixed = samples.clone();
    for (i, sample) in mixed.iter_mut().enumerate() {
        let image = blended(&images[i], &images[before(i)], share)
            .with_context(|| format!("mixing {} and {}", sample.source(), samples[before(i)].source()))?;
        let label = labels[i].iter().zip(&labels[before(i)]).map(|(own, other)| other * (1.0 - share) + own * share);
        sample.set(fields::IMAGE, Field::Image(image));
        sample.set(fields::LABEL, Field::Numbers(label.collect()));
    }
    Ok(mixed)
}

/// The label as probabilities of the classes.
fn one_hot(sample: &Sample, classes: usize) -> Result<Vec<f32>> {
    if sample.get(fields::SEGMENTATION).is_some()
        || sample.instances().is_some_and(|_| sample.get(fields::BOXES).is_some())
    {
        bail!("mixup is for images with one label; {} has objects or per-pixel classes: use mosaic", sample.source());
    }
    let label = match sample.get(fields::LABEL) {
        Some(Field::Integer(label)) => *label,
        _ => bail!("mixup needs a label for the image, which {} has not", sample.source()),
    };
    ensure!(
        (0..classes as i64).contains(&label),
        "{} has label {label}, but mixup has `num_classes = {classes}`: set it to the dataset's number",
        sample.source()
    );
    let mut probabilities = vec![0.0; classes];
    probabilities[label as usize] = 1.0;
    Ok(probabilities)
}

fn blended(own: &Image, other: &Image, share: f32) -> Result<Image> {
    let shape = |image: &Image| (image.width, image.height, image.channels);
    ensure!(
        shape(own) == shape(other),
        "the images are of {:?} and {:?} (width, height, channels); resize or crop them to one size before mixup",
        shape(own),
        shape(other)
    );
    let mix = |own: f32, other: f32| other * (1.0 - share) + own * share;
    let pixels = match (&own.pixels, &other.pixels) {
        (Pixels::U8(own), Pixels::U8(other)) => {
            let mix = |(a, b): (&u8, &u8)| mix(f32::from(*a), f32::from(*b)).round_ties_even() as u8;
            Pixels::U8(own.iter().zip(other).map(mix).collect())
        }
        _ => Pixels::F32(own.to_f32().iter().zip(other.to_f32()).map(|(a, b)| mix(*a, b)).collect()),
    };
    Ok(Image { height: own.height, width: own.width, channels: own.channels, pixels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{build, sample};
    use pipe_data::random::{Purpose, stream};
    use pipe_run::testing::{assert_close, numbers, parity};
    use serde_json::json;

    fn labelled(label: i64, values: Vec<f32>) -> Sample {
        Sample::new()
            .with(fields::IMAGE, Field::Image(Image::from_f32(2, 3, 1, values)))
            .with(fields::LABEL, Field::Integer(label))
    }

    #[test]
    fn images_and_labels_are_torchvisions() {
        let expected = parity("transforms/mixup.json");
        let values = numbers(&expected["images"]);
        let images = values.chunks(6).map(|values| values.iter().map(|v| *v as f32).collect::<Vec<f32>>());
        let labels = numbers(&expected["labels"]).into_iter().map(|label| label as i64);
        let samples: Vec<Sample> = images.zip(labels).map(|(image, label)| labelled(label, image)).collect();
        let mixed = mixed(samples, expected["lambda"].as_f64().unwrap() as f32, 4).unwrap();
        let all = |of: fn(&Sample) -> Vec<f32>| mixed.iter().flat_map(of).map(f64::from).collect::<Vec<f64>>();
        let images = all(|sample| sample.image().unwrap().to_f32());
        assert_close("images", &images, &numbers(&expected["mixed_images"]), 1e-6);
        let labels = all(|sample| match sample.get(fields::LABEL) {
            Some(Field::Numbers(label)) => label.clone(),
            other => panic!("{other:?}"),
        });
        assert_close("labels", &labels, &numbers(&expected["mixed_labels"]), 1e-6);
    }

    /// Mean 1/2 and variance 1 / (4 (2 alpha + 1)), and its fourth central moment, to four standard deviations of the means.
    #[test]
    fn shares_are_of_the_beta_distribution() {
        for alpha in [0.01, 0.2, 1.0, 3.0] {
            let mut rng = stream(3, Purpose::Batch, 0, 0);
            let shares: Vec<f64> = (0..40_000).map(|_| share(&mut rng, alpha) - 0.5).collect();
            let moment = |power| shares.iter().map(|share| share.powi(power)).sum::<f64>() / shares.len() as f64;
            let variance = 0.25 / (2.0 * alpha + 1.0);
            let fourth = 3.0 * variance * variance * (2.0 * alpha + 1.0) / (2.0 * alpha + 3.0);
            assert!(moment(1).abs() < 4.0 * (variance / 40_000.0).sqrt(), "{alpha}: {}", moment(1));
            let tolerance = 4.0 * ((fourth - variance * variance) / 40_000.0).sqrt() + 1e-12;
            assert!((moment(2) - variance).abs() < tolerance, "{alpha}: {} and {variance}", moment(2));
            assert!((moment(4) - fourth).abs() < 0.08 * fourth, "{alpha}: {} and {fourth}", moment(4));
        }
    }

    #[test]
    fn probabilities_reach_the_batch_as_one_tensor() {
        let samples = (0..3).map(|i| labelled(i, vec![i as f32; 6])).collect();
        let mixup = build("mixup", json!({ "num_classes": 5 }));
        let mixed = mixup.apply_batch(samples, &mut stream(1, Purpose::Batch, 0, 0)).unwrap();
        let batch = pipe_data::collate(mixed).unwrap();
        let labels = batch.stacked(fields::LABEL).unwrap();
        assert_eq!(labels.size(), [3, 5]);
        let sums: Vec<f64> = labels.sum_dim_intlist(1, false, tch::Kind::Double).try_into().unwrap();
        assert_close("sums", &sums, &[1.0; 3], 1e-6);
    }

    #[test]
    fn what_cannot_be_mixed_is_refused() {
        let mixup = build("mixup", json!({ "num_classes": 2 }));
        let error = |samples: Vec<Sample>| {
            format!("{:#}", mixup.apply_batch(samples, &mut stream(1, Purpose::Batch, 0, 0)).unwrap_err())
        };
        assert!(error(vec![sample()]).contains("use mosaic"));
        assert!(error(vec![labelled(2, vec![0.0; 6])]).contains("label 2, but mixup has `num_classes = 2`"));
        let other = labelled(1, vec![0.0; 6]).with(fields::IMAGE, Field::Image(Image::from_f32(1, 1, 1, vec![0.0])));
        assert!(error(vec![labelled(0, vec![0.0; 6]), other]).contains("to one size before mixup"));
    }
}
