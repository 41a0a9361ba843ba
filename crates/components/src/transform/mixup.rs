//! Mixup of a batch.

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::geometry::{Part, join};
use pipe_data::random::normal;
use pipe_data::{Extent, Field, Image, Pixels, Sample, SampleRng, fields};

/// Blends each image of a batch with the one before it (Zhang et al. 2018; torchvision's `MixUp`). A label becomes the
/// probability of each class, which the losses of classes take as their target. Of images with objects the blend has those of both
/// (Zhang et al. 2019; as Ultralytics, there with `alpha = 32`).
///
/// It acts on whole batches, after all transforms of single samples, which must have brought the images to one size. Per-pixel
/// classes are refused: a pixel cannot be of two.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mixup {
    /// Number of classes: that of the model. Needed for labels of whole images.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default)]
    pub num_classes: Option<usize>,
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
        Contract::default().needs([fields::IMAGE])
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

    fn largest(&self, extent: Extent) -> Extent {
        self.largest_among(extent, extent)
    }

    fn largest_among(&self, extent: Extent, most: Extent) -> Extent {
        Extent { objects: extent.objects + most.objects, ..extent }
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
fn mixed(samples: Vec<Sample>, share: f32, classes: Option<usize>) -> Result<Vec<Sample>> {
    let before = |i: usize| (i + samples.len() - 1) % samples.len();
    let mix = |(i, own): (usize, &Sample)| {
        let other = &samples[before(i)];
        pair(own, other, share, classes).with_context(|| format!("mixing {} and {}", own.source(), other.source()))
    };
    samples.iter().enumerate().map(mix).collect()
}

/// A sample with this share of its own, and the rest of another.
fn pair(own: &Sample, other: &Sample, share: f32, classes: Option<usize>) -> Result<Sample> {
    ensure!(own.get(fields::SEGMENTATION).is_none(), "mixup is not for per-pixel classes: a pixel cannot be of two");
    let image = blended(own.image()?, other.image()?, share)?;
    let mut mixed = match own.get(fields::BOXES) {
        None => {
            let labels = one_hot(own, classes)?.into_iter().zip(one_hot(other, classes)?);
            let label = labels.map(|(own, other)| other * (1.0 - share) + own * share).collect();
            own.clone().with(fields::LABEL, Field::Numbers(label))
        }
        Some(_) => {
            let parts = [own, other].map(|sample| Part { sample: sample.clone(), top: 0, left: 0 });
            join(parts.into(), image.height, image.width, &[0.0])?
        }
    };
    mixed.set(fields::IMAGE, Field::Image(image));
    Ok(mixed)
}

/// The label as probabilities of the classes.
fn one_hot(sample: &Sample, classes: Option<usize>) -> Result<Vec<f32>> {
    let label = match sample.get(fields::LABEL) {
        Some(Field::Integer(label)) => *label,
        _ => bail!("mixup needs objects or a label for the image, which {} has not", sample.source()),
    };
    let classes = classes.context("of labels, mixup needs to know the number of classes: set `num_classes`")?;
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
        let mixed = mixed(samples, expected["lambda"].as_f64().unwrap() as f32, Some(4)).unwrap();
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
    fn objects_of_both_are_there() {
        let first = sample();
        let mut second = sample();
        second.keep_instances(&[false, true]);
        let image = second.image_mut().unwrap();
        let Pixels::U8(bytes) = &mut image.pixels else { panic!("no bytes") };
        bytes.iter_mut().for_each(|byte| *byte = 255 - *byte);
        let mixed = mixed(vec![first.clone(), second.clone()], 0.5, None).unwrap();
        assert_eq!(mixed.iter().map(|sample| sample.instances()).collect::<Vec<_>>(), [Some(3); 2]);
        for sample in &mixed {
            let Pixels::U8(bytes) = &sample.image().unwrap().pixels else { panic!("no bytes") };
            assert!(bytes.iter().all(|byte| (127..=128).contains(byte)), "{bytes:?}");
        }
        let (Some(Field::Boxes(all)), Some(Field::Boxes(own)), Some(Field::Boxes(other))) =
            (mixed[0].get(fields::BOXES), first.get(fields::BOXES), second.get(fields::BOXES))
        else {
            panic!("no boxes")
        };
        assert_eq!(*all, [own.as_slice(), other].concat());
        let twice = Extent { height: 6, width: 6, objects: 4 };
        assert_eq!(build("mixup", json!({})).largest(Extent { objects: 2, ..twice }), twice);
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
        let classes = Field::Segmentation { height: 2, width: 3, classes: vec![0; 6] };
        assert!(
            error(vec![labelled(0, vec![0.0; 6]).with(fields::SEGMENTATION, classes)]).contains("cannot be of two")
        );
        assert!(error(vec![labelled(2, vec![0.0; 6])]).contains("label 2, but mixup has `num_classes = 2`"));
        let other = labelled(1, vec![0.0; 6]).with(fields::IMAGE, Field::Image(Image::from_f32(1, 1, 1, vec![0.0])));
        assert!(error(vec![labelled(0, vec![0.0; 6]), other]).contains("to one size before mixup"));
    }
}
