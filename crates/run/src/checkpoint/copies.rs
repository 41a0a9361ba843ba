//! Tensors as they are at one moment, while training changes the originals.
//!
//! On an accelerator they are copied in its own memory, in a thousandth of the time that it takes to bring them over; the thread that
//! writes them does that on a stream of its own. Where that memory may be short, they are brought over at once.

use anyhow::Result;
use pipe_native::stream::{Event, Stream};
use pipe_native::{is_accelerator, memory};
use pipe_vision::nn::StateDict;
use tch::{Device, Tensor};

/// What training is left of the memory that copies could take, at least.
const MARGIN: u64 = 256 << 20;

/// Marks in the streams of the devices that hold copies: behind the copying.
pub(super) struct Copied(Vec<(Device, Event)>);

/// Puts copies in the place of all tensors.
///
/// # Errors
/// When a device has no room or has failed.
pub(super) fn take(states: &mut [&mut StateDict]) -> Result<Copied> {
    let _no_gradients = tch::no_grad_guard();
    let mut sizes: Vec<(Device, u64)> = Vec::new();
    for tensor in states.iter().flat_map(|state| state.values()).filter(|tensor| is_accelerator(tensor.device())) {
        let size = (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        match sizes.iter_mut().find(|(device, _)| *device == tensor.device()) {
            Some((_, sum)) => *sum += size,
            None => sizes.push((tensor.device(), size)),
        }
    }
    let mut roomy = Vec::new();
    for (device, size) in sizes {
        if spare(device)? >= size + MARGIN {
            roomy.push(device);
        }
    }
    for tensor in states.iter_mut().flat_map(|state| state.values_mut()) {
        let original = tensor.f_detach()?;
        *tensor = match original.device() {
            Device::Cpu => copy(&original)?,
            device if roomy.contains(&device) => copy(&original)?,
            _ => original.f_to_device(Device::Cpu)?,
        };
    }
    let mark = |device| {
        let mut event = Event::new(device)?;
        event.record()?;
        Ok((device, event))
    };
    Ok(Copied(roomy.into_iter().map(mark).collect::<Result<_>>()?))
}

fn copy(original: &Tensor) -> Result<Tensor> {
    let mut copy = original.f_empty_like()?;
    copy.f_copy_(original)?;
    Ok(copy)
}

/// What the allocator could still give if training took again as much as it ever took.
fn spare(device: Device) -> Result<u64> {
    let (free, _) = memory::free_and_total(device)?;
    Ok((free + memory::reserved(device)?).saturating_sub(memory::max_allocated(device)?))
}

impl Copied {
    /// Brings the copies to the CPU.
    ///
    /// # Errors
    /// When a device has failed.
    pub(super) fn bring(self, states: &mut [&mut StateDict]) -> Result<()> {
        for (device, event) in self.0 {
            let stream = Stream::side(device)?;
            event.block(&stream)?;
            let there = states.iter_mut().flat_map(|state| state.values_mut());
            stream.with(|| {
                there.filter(|tensor| tensor.device() == device).try_for_each(|tensor| -> Result<()> {
                    // Done when it returns: the memory of the copy may be given away then.
                    *tensor = tensor.f_to_device(Device::Cpu)?;
                    Ok(())
                })
            })??;
        }
        Ok(())
    }
}
