//! Transforms: functions from sample to sample.

use anyhow::Result;

use super::dataset::Dataset;
use crate::Kind;
use crate::boundary::{Input, Remote, Served, no_method};
use crate::data::{Extent, Sample, SampleRng};
use crate::message::{Message, Wire};

const APPLY: u32 = 1;
const APPLY_BATCH: u32 = 2;
const ACTS_ON: u32 = 3;
const LARGEST: u32 = 4;

/// Where a sample comes from, for transforms that make one image of several.
#[derive(Clone, Copy)]
pub struct Among<'a> {
    /// The dataset.
    pub dataset: &'a dyn Dataset,
    /// The pass over the data, counted from 0.
    pub epoch: u64,
}

/// A function from sample to sample, called from worker threads. It acts on fields by their type and keeps them
/// consistent: what moves the image moves its boxes, masks and keypoints.
///
/// One that acts on whole batches says so in [`Transform::on_batches`]: what a transform of a plugin does not declare is not
/// called, so that samples are not copied across the border for nothing.
pub trait Transform: Send + Sync {
    /// Whether [`Transform::apply`] does anything; asked once, after building.
    fn on_samples(&self) -> bool {
        true
    }

    /// Whether [`Transform::apply_batch`] does anything; asked once, after building. Whoever writes that method returns
    /// `true` here.
    fn on_batches(&self) -> bool {
        false
    }

    /// Where it is a sequence: its transforms in order, by the name of their component. Each is then applied to all that the one before
    /// made, with the same generator.
    fn steps(&self) -> Vec<(&str, &dyn Transform)> {
        Vec::new()
    }

    /// The most that [`Transform::apply`] can make of a sample of this extent: whoever makes images larger or smaller says so here.
    fn largest(&self, extent: Extent) -> Extent {
        extent
    }

    /// As [`Transform::largest`], in a dataset whose samples are at most of the extent `most`; for transforms of the program.
    fn largest_among(&self, extent: Extent, _most: Extent) -> Extent {
        self.largest(extent)
    }

    /// Changes one sample. All chance comes from `rng`.
    ///
    /// # Errors
    /// When the sample lacks what the transform needs.
    fn apply(&self, sample: Sample, _rng: &mut SampleRng) -> Result<Sample> {
        Ok(sample)
    }

    /// Changes one sample, with others of its dataset at hand: what loaders call; for transforms of the program.
    ///
    /// # Errors
    /// As [`Transform::apply`].
    fn apply_among(&self, sample: Sample, _among: Among<'_>, rng: &mut SampleRng) -> Result<Sample> {
        self.apply(sample, rng)
    }

    /// Changes the samples of one batch together, after [`Transform::apply`] (mixup, copy-paste). Needs
    /// [`Transform::on_batches`].
    ///
    /// # Errors
    /// As [`Transform::apply`].
    fn apply_batch(&self, samples: Vec<Sample>, _rng: &mut SampleRng) -> Result<Vec<Sample>> {
        Ok(samples)
    }
}

/// What one side carries over for a method: the value, and the generator at its place in the stream.
fn applied<T: Wire>(mut input: Input<'_>, f: impl FnOnce(T, &mut SampleRng) -> Result<T>) -> Result<Message> {
    let mut rng = SampleRng::unpack(&mut input.reader)?;
    let value = f(T::unpack(&mut input.reader)?, &mut rng)?;
    let mut reply = Message::of(&value)?;
    rng.pack(&mut reply)?;
    Ok(reply)
}

impl Served for Box<dyn Transform> {
    fn serve(&self, method: u32, mut input: Input<'_>) -> Result<Message> {
        match method {
            APPLY => applied(input, |sample, rng| self.apply(sample, rng)),
            APPLY_BATCH => applied(input, |samples, rng| self.apply_batch(samples, rng)),
            LARGEST => Message::plain(&self.largest(input.reader.get()?)),
            ACTS_ON => Message::plain(&(self.on_samples(), self.on_batches())),
            other => Err(no_method(Kind::Transform, other)),
        }
    }
}

/// A transform of the other side, as the program uses it.
pub struct RemoteTransform {
    remote: Remote,
    on_samples: bool,
    on_batches: bool,
}

// SAFETY: the object is a `dyn Transform`, which is `Send + Sync` by its trait, and the border keeps nothing of a thread.
unsafe impl Send for RemoteTransform {}
// SAFETY: as above.
unsafe impl Sync for RemoteTransform {}

impl RemoteTransform {
    pub(crate) fn new(remote: Remote) -> Result<RemoteTransform> {
        let (on_samples, on_batches) = remote.call(ACTS_ON, &Message::default())?.reader().get()?;
        Ok(RemoteTransform { remote, on_samples, on_batches })
    }

    fn call<T: Wire>(&self, method: u32, value: T, rng: &mut SampleRng) -> Result<T> {
        let mut message = Message::of(rng)?;
        value.pack(&mut message)?;
        let answer = self.remote.call(method, &message)?;
        let mut reader = answer.reader();
        let value = T::unpack(&mut reader)?;
        *rng = SampleRng::unpack(&mut reader)?;
        Ok(value)
    }
}

impl Transform for RemoteTransform {
    fn on_samples(&self) -> bool {
        self.on_samples
    }

    fn on_batches(&self) -> bool {
        self.on_batches
    }

    fn largest(&self, extent: Extent) -> Extent {
        let ask = || self.remote.call(LARGEST, &Message::plain(&extent)?)?.reader().get();
        ask().unwrap_or_else(|error| {
            tracing::warn!("{error:#}");
            extent
        })
    }

    fn apply(&self, sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        if self.on_samples { self.call(APPLY, sample, rng) } else { Ok(sample) }
    }

    fn apply_batch(&self, samples: Vec<Sample>, rng: &mut SampleRng) -> Result<Vec<Sample>> {
        if self.on_batches { self.call(APPLY_BATCH, samples, rng) } else { Ok(samples) }
    }
}
