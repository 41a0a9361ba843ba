//! Transforms: functions from sample to sample.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use crate::Kind;
use crate::boundary::{Input, Remote, no_method};
use crate::data::{Sample, SampleRng};
use crate::message::{Message, Wire};

const APPLY: u32 = 1;
const APPLY_BATCH: u32 = 2;

thread_local! {
    /// Whether one of the trait's own methods, which do nothing, was called on this thread.
    static DEFAULT: Cell<bool> = const { Cell::new(false) };
}

/// A function from sample to sample, called from worker threads. It acts on fields by their type and keeps them
/// consistent: what moves the image moves its boxes, masks and keypoints.
pub trait Transform: Send + Sync {
    /// Changes one sample. All chance comes from `rng`.
    ///
    /// # Errors
    /// When the sample lacks what the transform needs.
    fn apply(&self, sample: Sample, _rng: &mut SampleRng) -> Result<Sample> {
        DEFAULT.set(true);
        Ok(sample)
    }

    /// Changes the samples of one batch together, after [`Transform::apply`] (mixup, copy-paste).
    ///
    /// # Errors
    /// As [`Transform::apply`].
    fn apply_batch(&self, samples: Vec<Sample>, _rng: &mut SampleRng) -> Result<Vec<Sample>> {
        DEFAULT.set(true);
        Ok(samples)
    }
}

pub(crate) fn serve(transform: &dyn Transform, method: u32, mut input: Input<'_>) -> Result<Message> {
    let from = &mut input.reader;
    let mut rng = SampleRng::unpack(from)?;
    let mut reply = Message::default();
    DEFAULT.set(false);
    match method {
        APPLY => transform.apply(Sample::unpack(from)?, &mut rng)?.pack(&mut reply)?,
        APPLY_BATCH => transform.apply_batch(Vec::unpack(from)?, &mut rng)?.pack(&mut reply)?,
        other => return Err(no_method(Kind::Transform, other)),
    }
    rng.pack(&mut reply)?;
    reply.put(&DEFAULT.get())?;
    Ok(reply)
}

/// A transform of the other side, as the program uses it.
pub struct RemoteTransform {
    remote: Remote,
    /// Methods known to do nothing: samples need not be carried there and back.
    idle: [AtomicBool; 2],
}

// SAFETY: the object is a `dyn Transform`, which is `Send + Sync` by its trait, and the border keeps nothing of a thread.
unsafe impl Send for RemoteTransform {}
// SAFETY: as above.
unsafe impl Sync for RemoteTransform {}

impl RemoteTransform {
    pub(crate) fn new(remote: Remote) -> RemoteTransform {
        RemoteTransform { remote, idle: [AtomicBool::new(false), AtomicBool::new(false)] }
    }

    fn call<T: Wire>(&self, method: u32, value: T, rng: &mut SampleRng) -> Result<T> {
        let idle = &self.idle[(method == APPLY_BATCH) as usize];
        if idle.load(Ordering::Relaxed) {
            return Ok(value);
        }
        let mut message = Message::of(rng)?;
        value.pack(&mut message)?;
        let answer = self.remote.call(method, &message)?;
        let mut reader = answer.reader();
        let value = T::unpack(&mut reader)?;
        *rng = SampleRng::unpack(&mut reader)?;
        idle.store(reader.get()?, Ordering::Relaxed);
        Ok(value)
    }
}

impl Transform for RemoteTransform {
    fn apply(&self, sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        self.call(APPLY, sample, rng)
    }

    fn apply_batch(&self, samples: Vec<Sample>, rng: &mut SampleRng) -> Result<Vec<Sample>> {
        self.call(APPLY_BATCH, samples, rng)
    }
}
