//! The states of libtorch's random generators, for checkpoints.

use anyhow::{Context, Result};
use indexmap::IndexMap;
use pipe_native::device_name;
use tch::Tensor;

/// The generators' states by device name: `cpu`, `cuda:0`, …
///
/// # Errors
/// When a device does not answer.
pub fn states() -> Result<IndexMap<String, Tensor>> {
    pipe_native::generator::devices()
        .into_iter()
        .map(|device| Ok((device_name(device), pipe_native::generator::state(device)?)))
        .collect()
}

/// Sets the generators back; states of devices that this machine has not are skipped.
///
/// # Errors
/// When a state is not a generator's.
pub fn restore(states: &IndexMap<String, Tensor>) -> Result<()> {
    for device in pipe_native::generator::devices() {
        if let Some(state) = states.get(&device_name(device)) {
            let restored = pipe_native::generator::set_state(device, state);
            restored.with_context(|| format!("restoring the random generator of {}", device_name(device)))?;
        }
    }
    Ok(())
}
