//! Streams, events and waiting, through libtorch's device-neutral interface. On the CPU work is done when it returns, so
//! there streams do nothing and events are clock readings.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use tch::{Device, Tensor};

use crate::ffi;

/// Waits until all work queued on a device is done.
///
/// # Errors
/// When the device does not exist, or work queued before has failed.
pub fn synchronize(device: Device) -> Result<()> {
    // SAFETY: a plain number.
    ffi::check(unsafe { ffi::pn_synchronize(ffi::device_number(device)?) })
}

/// A queue of work on a device. Work on one stream runs in order; streams run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    id: ffi::StreamId,
}

impl Stream {
    /// The stream that the calling thread queues work on.
    ///
    /// # Errors
    /// When the device does not exist.
    pub fn current(device: Device) -> Result<Self> {
        let mut id = ffi::StreamId { id: 0, device: ffi::device_number(device)? };
        if device != Device::Cpu {
            // SAFETY: `id` outlives the call.
            ffi::check(unsafe { ffi::pn_stream_current(id.device, &mut id) })?;
        }
        Ok(Self { id })
    }

    /// A stream of libtorch's pool, for work beside the current one (copies, say).
    ///
    /// # Errors
    /// When the device does not exist.
    pub fn side(device: Device) -> Result<Self> {
        let mut id = ffi::StreamId { id: 0, device: ffi::device_number(device)? };
        if device != Device::Cpu {
            // SAFETY: `id` outlives the call.
            ffi::check(unsafe { ffi::pn_stream_from_pool(id.device, false, &mut id) })?;
        }
        Ok(Self { id })
    }

    /// Runs `f` with this stream as the calling thread's current one; the former one is current again afterwards, also
    /// when `f` panics.
    ///
    /// # Errors
    /// When the device fails. `f` is then not run.
    pub fn with<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        let _guard = StreamGuard::enter(self)?;
        Ok(f())
    }

    /// Waits until all work queued on this stream is done.
    ///
    /// # Errors
    /// When work queued before has failed.
    pub fn synchronize(&self) -> Result<()> {
        if self.is_cpu() {
            return Ok(());
        }
        // SAFETY: `id` outlives the call.
        ffi::check(unsafe { ffi::pn_stream_synchronize(&self.id) })
    }

    /// Tells the allocator that this stream uses the tensor, made on another one: its memory is then not given away
    /// before this stream is done with it.
    ///
    /// # Errors
    /// When the tensor is on another device.
    pub fn uses(&self, tensor: &Tensor) -> Result<()> {
        if self.is_cpu() {
            return Ok(());
        }
        // SAFETY: the handle lives as long as `tensor`, `id` outlives the call.
        ffi::check(unsafe { ffi::pn_record_stream(ffi::handle(tensor), &self.id) })
    }

    fn is_cpu(&self) -> bool {
        self.id.device == -1
    }
}

struct StreamGuard {
    previous: Option<ffi::StreamId>,
    // The current stream is a thing of the thread.
    thread_bound: PhantomData<*const ()>,
}

impl StreamGuard {
    fn enter(stream: &Stream) -> Result<Self> {
        if stream.is_cpu() {
            return Ok(Self { previous: None, thread_bound: PhantomData });
        }
        let mut previous = stream.id;
        // SAFETY: both outlive the call.
        ffi::check(unsafe { ffi::pn_stream_exchange(&stream.id, &mut previous) })?;
        Ok(Self { previous: Some(previous), thread_bound: PhantomData })
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if let Some(previous) = self.previous {
            let mut left = previous;
            // SAFETY: both outlive the call. It sets a thread-local variable and cannot fail once `enter` has not.
            let _ = ffi::check(unsafe { ffi::pn_stream_exchange(&previous, &mut left) });
        }
    }
}

/// A point in the work of a stream: to wait for, and to measure from.
#[derive(Debug)]
pub struct Event {
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Host(Option<Instant>),
    Device { event: *mut c_void, device: Device },
}

// SAFETY: c10::Event is a handle of the driver with no tie to a thread; methods that change it take `&mut self`.
unsafe impl Send for Event {}

impl Event {
    /// An event of a device, not recorded yet.
    ///
    /// # Errors
    /// When the device does not exist.
    pub fn new(device: Device) -> Result<Self> {
        if device == Device::Cpu {
            return Ok(Self { inner: Inner::Host(None) });
        }
        let mut event = null_mut();
        // SAFETY: `event` outlives the call.
        ffi::check(unsafe { ffi::pn_event_new(ffi::device_number(device)?, &mut event) })?;
        Ok(Self { inner: Inner::Device { event, device } })
    }

    /// Sets the point: after all work queued until now on the current stream.
    ///
    /// # Errors
    /// When the device fails.
    pub fn record(&mut self) -> Result<()> {
        match &mut self.inner {
            Inner::Host(at) => {
                *at = Some(Instant::now());
                Ok(())
            }
            Inner::Device { event, device } => {
                let stream = Stream::current(*device)?;
                // SAFETY: `event` is ours and alive until drop; the stream outlives the call.
                ffi::check(unsafe { ffi::pn_event_record(*event, &stream.id) })
            }
        }
    }

    /// Makes a stream wait for this point before it goes on; the calling thread does not wait.
    ///
    /// # Errors
    /// When the device fails.
    pub fn block(&self, stream: &Stream) -> Result<()> {
        match &self.inner {
            Inner::Host(_) => Ok(()),
            Inner::Device { event, .. } => {
                // SAFETY: `event` is ours and alive until drop; the stream outlives the call.
                ffi::check(unsafe { ffi::pn_event_block(*event, &stream.id) })
            }
        }
    }

    /// Whether the point is reached.
    ///
    /// # Errors
    /// When the device fails.
    pub fn is_done(&self) -> Result<bool> {
        match &self.inner {
            Inner::Host(_) => Ok(true),
            Inner::Device { event, .. } => {
                let mut done = false;
                // SAFETY: `event` is ours and alive until drop; `done` outlives the call.
                ffi::check(unsafe { ffi::pn_event_query(*event, &mut done) })?;
                Ok(done)
            }
        }
    }

    /// Waits until the point is reached.
    ///
    /// # Errors
    /// When the device fails.
    pub fn synchronize(&self) -> Result<()> {
        match &self.inner {
            Inner::Host(_) => Ok(()),
            // SAFETY: `event` is ours and alive until drop.
            Inner::Device { event, .. } => ffi::check(unsafe { ffi::pn_event_synchronize(*event) }),
        }
    }

    /// Milliseconds from this point to a later one of the same device. Waits for the later one.
    ///
    /// # Errors
    /// When one is not recorded, or they are of different devices.
    pub fn elapsed_ms(&self, later: &Event) -> Result<f64> {
        match (&self.inner, &later.inner) {
            (Inner::Host(from), Inner::Host(to)) => {
                let (from, to) = from.zip(*to).ok_or_else(|| anyhow!("an event was not recorded"))?;
                Ok(to.saturating_duration_since(from).as_secs_f64() * 1e3)
            }
            (Inner::Device { event: from, device: a }, Inner::Device { event: to, device: b }) if a == b => {
                later.synchronize()?;
                let mut ms = 0.0;
                // SAFETY: both events are alive until drop; `ms` outlives the call.
                ffi::check(unsafe { ffi::pn_event_elapsed(*from, *to, &mut ms) })?;
                Ok(ms)
            }
            _ => bail!("the two events are of different devices"),
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Inner::Device { event, .. } = self.inner {
            // SAFETY: made by `pn_event_new`, owned by us alone, not used afterwards.
            unsafe { ffi::pn_event_delete(event) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_cpu_events_are_clock_readings() {
        let (mut a, mut b) = (Event::new(Device::Cpu).unwrap(), Event::new(Device::Cpu).unwrap());
        assert!(a.elapsed_ms(&b).unwrap_err().to_string().contains("not recorded"));
        a.record().unwrap();
        b.record().unwrap();
        assert!(a.elapsed_ms(&b).unwrap() >= 0.0);
        assert!(a.is_done().unwrap());
        let side = Stream::side(Device::Cpu).unwrap();
        b.block(&side).unwrap();
        assert_eq!(side.with(|| 7).unwrap(), 7);
        synchronize(Device::Cpu).unwrap();
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error() {
        crate::init().unwrap();
        let absent = Device::Cuda(100);
        assert!(synchronize(absent).is_err());
        assert!(Event::new(absent).and_then(|mut e| e.record()).is_err());
        assert!(Stream::current(absent).is_err());
        assert!(synchronize(Device::Vulkan).unwrap_err().to_string().contains("not supported"));
    }
}
