//! Batches on their way to an accelerator.

use std::cell::{OnceCell, RefCell};

use anyhow::Result;
use pipe_native::stream::{Event, Stream};
use pipe_native::{device, is_accelerator};
use tch::{Device, Tensor};

use super::{Batch, BatchField};

/// Copies that are on their way: that of a batch at work, and of the next.
const AHEAD: usize = 2;

/// Copies batches to an accelerator beside its work, on a stream of their own, one batch ahead. On the CPU it does nothing.
#[derive(Debug, Default)]
pub struct Uploads {
    stream: OnceCell<Stream>,
    /// The next batch, whose copy has not begun.
    next: RefCell<Option<Batch>>,
    ahead: RefCell<Vec<Ahead>>,
}

/// A batch whose copy has begun.
#[derive(Debug)]
struct Ahead {
    host: Batch,
    there: Batch,
    done: Event,
}

impl Uploads {
    /// Says which batch comes next: its copy begins when the device has its work ([`Self::begin_next`]), since to queue it takes the host
    /// a millisecond or two.
    pub fn plan(&self, next: Option<&Batch>) {
        self.next.replace(next.map(Batch::shallow_clone));
    }

    /// Begins to copy the next batch, if one is planned. Without room for it now it is copied when its turn comes.
    pub fn begin_next(&self, device: Device) {
        if let Some(next) = self.next.take() {
            let _ = self.begin(&next, device);
        }
    }

    /// Begins to copy a batch.
    ///
    /// # Errors
    /// When the device fails or has no room. Nothing has changed then.
    pub fn begin(&self, batch: &Batch, device: Device) -> Result<()> {
        if !is_accelerator(device) {
            return Ok(());
        }
        let stream = match self.stream.get() {
            Some(stream) => *stream,
            None => {
                let stream = Stream::side(device)?;
                *self.stream.get_or_init(|| stream)
            }
        };
        let mut done = Event::new(device)?;
        let there = stream.with(|| {
            let there = to_device(batch, device)?;
            done.record()?;
            anyhow::Ok(there)
        })??;
        let mut ahead = self.ahead.borrow_mut();
        ahead.push(Ahead { host: batch.shallow_clone(), there, done });
        let old = ahead.len().saturating_sub(AHEAD);
        ahead.drain(..old);
        Ok(())
    }

    /// Lets go of copies that nobody took.
    pub fn forget(&self) {
        self.next.take();
        self.ahead.borrow_mut().clear();
    }

    /// The batch on the device: the copy that has begun, for which work that is queued from now on waits, else one that begins now.
    ///
    /// # Errors
    /// When the device fails or has no room.
    pub fn take(&self, batch: &Batch, device: Device) -> Result<Batch> {
        let mut ahead = self.ahead.borrow_mut();
        let Some(place) = ahead.iter().position(|ahead| is_same(&ahead.host, batch)) else {
            return to_device(batch, device);
        };
        let Some(Ahead { there, done, .. }) = ahead.drain(..=place).next_back() else {
            return to_device(batch, device);
        };
        let current = Stream::current(device)?;
        done.block(&current)?;
        tensors(&there).try_for_each(|tensor| current.uses(tensor))?;
        Ok(there)
    }
}

/// The tensors of a batch.
fn tensors(batch: &Batch) -> impl Iterator<Item = &Tensor> {
    batch.iter().flat_map(|(_, field)| match field {
        BatchField::Stacked(tensor) => std::slice::from_ref(tensor),
        BatchField::List(list) => list,
        BatchField::Text(_) | BatchField::Detections(_) => &[],
    })
}

/// Whether two are one batch, and not only alike.
fn is_same(a: &Batch, b: &Batch) -> bool {
    let place = |batch: &Batch| tensors(batch).find(|tensor| tensor.numel() > 0).map(Tensor::data_ptr);
    place(a).is_some() && place(a) == place(b)
}

/// The batch on another device. Copies to an accelerator go through pinned memory and are queued: nothing waits for them.
///
/// # Errors
/// When the device has no room.
pub fn to_device(batch: &Batch, device: Device) -> Result<Batch> {
    each(batch, |tensor| device::to_device(tensor, device, true))
}

/// The batch in pinned memory.
///
/// # Errors
/// When there is no accelerator, or no memory.
pub fn pinned(batch: &Batch) -> Result<Batch> {
    each(batch, device::pin)
}

fn each(batch: &Batch, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Batch> {
    let mut changed = batch.shallow_clone();
    for (name, field) in batch.iter() {
        match field {
            BatchField::Stacked(tensor) => changed.set(name, BatchField::Stacked(change(tensor)?)),
            BatchField::List(list) => {
                changed.set(name, BatchField::List(list.iter().map(&change).collect::<Result<_>>()?));
            }
            // A model's, and on its device.
            BatchField::Text(_) | BatchField::Detections(_) => {}
        }
    }
    Ok(changed)
}
