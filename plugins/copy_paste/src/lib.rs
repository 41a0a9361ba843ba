//! Copy-paste: objects of one image of a batch are pasted into the next.
//!
//! - [`paste`]: one pasting, with what is drawn at random given

mod paste;

use pipe_plugin::prelude::*;

pub use paste::paste;

/// Copy-paste augmentation: pastes objects of one image of a batch into the next, as torchvision's detection reference does.
///
/// Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation". Each image gets
/// objects of the one before it in the batch, the first those of the last; as many are sampled as that one has, with
/// replacement, so about two thirds of them are pasted, at their original position. Covered pixels are removed from the masks of the
/// image's own objects; fully covered objects are dropped, and the boxes and areas of the others are recomputed
/// from their masks. Crowd regions are never pasted.
///
/// Images may differ in size; a pasted one is then resized to the other. With large-scale jitter (`scale_jitter`,
/// `fixed_size_crop`) before it they do not, as in the paper.
#[config]
pub struct CopyPaste {
    /// Probability of applying it to a batch.
    #[serde(default = "always")]
    #[schemars(range(min = 0, max = 1))]
    pub p: f64,
    /// Also paste the pixels that are at most two pixels away from an object, which softens its edge
    /// (torchvision's `blending`).
    #[serde(default = "yes")]
    pub blending: bool,
}

fn always() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

impl Config for CopyPaste {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "copy_paste";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "compose"
steps = [
  { type = "scale_jitter", size = 1024 },
  { type = "fixed_size_crop", size = 1024 },
  { type = "random_horizontal_flip" },
  { type = "copy_paste" },
]
"#;

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE, fields::BOXES, fields::LABELS, fields::MASKS])
    }
}

impl Component for CopyPaste {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

impl Transform for CopyPaste {
    fn on_samples(&self) -> bool {
        false
    }

    fn on_batches(&self) -> bool {
        true
    }

    fn apply_batch(&self, mut samples: Vec<Sample>, rng: &mut SampleRng) -> Result<Vec<Sample>> {
        if samples.len() < 2 || !chance(rng, self.p) {
            return Ok(samples);
        }
        // Pasted is always what an image was before anything was pasted into it.
        let sources = samples.clone();
        for (i, sample) in samples.iter_mut().enumerate() {
            let source = &sources[(i + sources.len() - 1) % sources.len()];
            let chosen = draw(source, rng);
            if !chosen.is_empty() {
                paste(sample, source, &chosen, self.blending)?;
            }
        }
        Ok(samples)
    }
}

/// Which objects are pasted: as many draws as there are objects, repetitions once.
fn draw(source: &Sample, rng: &mut SampleRng) -> Vec<usize> {
    let crowd = match source.get(fields::ISCROWD) {
        Some(Field::Integers(values)) => values.as_slice(),
        _ => &[],
    };
    let count = source.instances().unwrap_or(0);
    let objects: Vec<usize> = (0..count).filter(|i| crowd.get(*i) != Some(&1)).collect();
    let last = objects.len() as i64 - 1;
    let mut chosen: Vec<usize> = objects.iter().map(|_| objects[whole(rng, 0, last) as usize]).collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

pipe_plugin::export! { CopyPaste }

#[cfg(test)]
mod tests {
    use pipe_plugin::testing::{rng, sample, transform};

    use super::*;

    fn instances(sample: &Sample) -> usize {
        sample.instances().unwrap_or(0)
    }

    #[test]
    fn objects_come_from_the_picture_before_as_it_was() {
        let batch = || vec![sample(20, 20, &[[1.0, 1.0, 5.0, 5.0]]), sample(20, 20, &[]), sample(20, 20, &[])];
        let built = transform::<CopyPaste>(json!({})).unwrap();
        let pasted = built.apply_batch(batch(), &mut rng(0)).unwrap();
        // The second gets the first's object; the third would only have got it from the second after that.
        assert_eq!(pasted.iter().map(instances).collect::<Vec<_>>(), [1, 1, 0]);
        assert_eq!(pasted[1].get(fields::BOXES), batch()[0].get(fields::BOXES));
        let never = transform::<CopyPaste>(json!({ "p": 0.0 })).unwrap();
        assert_eq!(never.apply_batch(batch(), &mut rng(0)).unwrap(), batch());
        let alone = vec![sample(20, 20, &[[1.0, 1.0, 5.0, 5.0]])];
        assert_eq!(built.apply_batch(alone.clone(), &mut rng(0)).unwrap(), alone);
    }

    #[test]
    fn crowds_are_not_pasted_and_draws_repeat() {
        let boxes: Vec<[f32; 4]> = (0..10).map(|i| [i as f32, 0.0, i as f32 + 1.0, 4.0]).collect();
        let mut source = sample(4, 10, &boxes);
        let crowd = [0, 0, 1, 0, 0, 0, 0, 0, 0, 1];
        source.set(fields::ISCROWD, Field::Integers(crowd.to_vec()));
        let mut counts = [0; 10];
        for index in 0..200 {
            for i in draw(&source, &mut rng(index)) {
                counts[i] += 1;
            }
        }
        assert_eq!((counts[2], counts[9]), (0, 0));
        // Each of 8 objects is among 8 draws with probability 1 - (7/8)^8 = 0.66.
        let others = counts.iter().filter(|&&n| n > 0);
        assert!(others.clone().count() == 8 && others.into_iter().all(|n| (105..160).contains(n)), "{counts:?}");
    }

    #[test]
    fn a_probability_beyond_one_is_refused_by_the_schema() {
        let schema = pipe_plugin::testing::plugin::<CopyPaste>().describe().unwrap().remove(0).schema;
        assert_eq!(schema["properties"]["p"]["maximum"], 1);
    }
}
