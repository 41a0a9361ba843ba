//! Transforms through the border: what they declare is what is called.

use pipe_plugin::prelude::*;
use pipe_plugin::testing::{rng, transform};

/// Wraps a transform, and counts the samples itself.
#[config]
pub struct Wrapper {
    /// Whether it acts on samples.
    on_samples: bool,
    /// Whether it acts on batches.
    on_batches: bool,
}

impl Config for Wrapper {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "wrapper";
    const EXAMPLE: &'static str = "[transform.mine]\ntype = \"wrapper\"\non_samples = true\non_batches = true\n";
}

impl Component for Wrapper {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::transform(Counting { inner: Box::new(Nothing), options: self }))
    }
}

/// Has the trait's own methods only, which do nothing.
struct Nothing;

impl Transform for Nothing {}

struct Counting {
    inner: Box<dyn Transform>,
    options: Wrapper,
}

fn counted(mut sample: Sample, by: i64) -> Sample {
    let before = match sample.get("count") {
        Some(Field::Integer(count)) => *count,
        _ => 0,
    };
    sample.set("count", Field::Integer(before + by));
    sample
}

impl Transform for Counting {
    fn on_samples(&self) -> bool {
        self.options.on_samples
    }

    fn on_batches(&self) -> bool {
        self.options.on_batches
    }

    fn apply(&self, sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        Ok(counted(self.inner.apply(sample, rng)?, 1))
    }

    fn apply_batch(&self, samples: Vec<Sample>, rng: &mut SampleRng) -> Result<Vec<Sample>> {
        let samples = self.inner.apply_batch(samples, rng)?;
        Ok(samples.into_iter().map(|sample| counted(sample, 10)).collect())
    }
}

fn wrapper(on_samples: bool, on_batches: bool) -> Box<dyn Transform> {
    let built = transform::<Wrapper>(json!({ "on_samples": on_samples, "on_batches": on_batches })).unwrap();
    assert_eq!((built.on_samples(), built.on_batches()), (on_samples, on_batches));
    built
}

#[test]
fn a_wrapper_of_a_transform_that_does_nothing_is_called_for_every_sample() {
    let built = wrapper(true, true);
    let count = |sample: &Sample| sample.get("count").cloned();
    for index in 0..5 {
        let sample = built.apply(Sample::new(), &mut rng(index)).unwrap();
        assert_eq!(count(&sample), Some(Field::Integer(1)), "sample {index}");
        let samples = built.apply_batch(vec![sample, Sample::new()], &mut rng(index)).unwrap();
        let counts: Vec<_> = samples.iter().map(count).collect();
        assert_eq!(counts, [Some(Field::Integer(11)), Some(Field::Integer(10))], "batch {index}");
    }
}

#[test]
fn what_is_not_declared_is_not_called() {
    let (samples, batches) = (wrapper(true, false), wrapper(false, true));
    assert_eq!(batches.apply(Sample::new(), &mut rng(0)).unwrap(), Sample::new());
    assert_eq!(samples.apply_batch(vec![Sample::new()], &mut rng(0)).unwrap(), [Sample::new()]);
    assert_ne!(samples.apply(Sample::new(), &mut rng(0)).unwrap(), Sample::new());
    assert_ne!(batches.apply_batch(vec![Sample::new()], &mut rng(0)).unwrap(), [Sample::new()]);
}
