//! Batches for which there is no memory.

use anyhow::Error;
use pipe_data::{Batch, fields};
use pipe_native::fault::is_out_of_memory;
use tch::{Device, Tensor};

/// Images of a batch that a message names.
const SHOWN: usize = 16;

/// Says which batch was too much, where an error is one of memory.
pub(super) fn told_of_memory(error: Error, batch: impl FnOnce() -> Option<Batch>, device: Device) -> Error {
    if !is_out_of_memory(&error) {
        return error;
    }
    let batch = batch().map(|batch| format!(" with {}", contents(&batch))).unwrap_or_default();
    error.context(format!(
        "out of memory on {}{batch}. Lower `batch_size` or the size of the images, or set `precision = \"bf16\"`",
        pipe_native::device_name(device)
    ))
}

/// How many images, of which sizes, with how many objects, and where they came from.
fn contents(batch: &Batch) -> String {
    let sizes = batch.list(fields::IMAGE).unwrap_or_default();
    let objects = batch.list(fields::BOXES).unwrap_or_default();
    let one = |(number, source): (usize, String)| {
        let size = sizes.get(number).map(Tensor::size).unwrap_or_default();
        let size = if let [.., height, width] = size[..] { format!(" {width} × {height}") } else { String::new() };
        let objects = objects.get(number).map(|boxes| format!(", {} objects", boxes.size()[0])).unwrap_or_default();
        format!("{source}{size}{objects}")
    };
    let told: Vec<String> = batch.sources().into_iter().enumerate().take(SHOWN).map(one).collect();
    let more = batch.size.saturating_sub(SHOWN);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("a batch of {} ({}{more})", batch.size, told.join("; "))
}
