//! Seeds and states of libtorch's random generators: one of the CPU, one of each accelerator.

use anyhow::Result;
use tch::{Device, Tensor};

use crate::device::accelerators;
use crate::ffi;

/// The state of a device's default generator: u8 `[B]`, on the CPU, in torch's own layout.
///
/// # Errors
/// When the device does not exist.
pub fn state(device: Device) -> Result<Tensor> {
    let number = ffi::device_number(device)?;
    // SAFETY: a plain number goes in, a fresh tensor comes out.
    ffi::new_tensor(|out| unsafe { ffi::pn_generator_state(number, out) })
}

/// Puts back what [`state`] gave.
///
/// # Errors
/// When the state is not one of such a generator, or the device does not exist.
pub fn set_state(device: Device, state: &Tensor) -> Result<()> {
    let number = ffi::device_number(device)?;
    // SAFETY: the handle lives as long as `state`; the shim only reads it.
    ffi::check(unsafe { ffi::pn_generator_set_state(number, ffi::handle(state)) })
}

/// Seeds a device's default generator.
///
/// # Errors
/// When the device does not exist.
pub fn seed(device: Device, seed: u64) -> Result<()> {
    // SAFETY: plain numbers.
    ffi::check(unsafe { ffi::pn_generator_seed(ffi::device_number(device)?, seed) })
}

/// Every device that has a generator here: the CPU, then each accelerator.
pub fn devices() -> Vec<Device> {
    std::iter::once(Device::Cpu).chain(accelerators()).collect()
}

/// Seeds the generators of all devices, as `torch.manual_seed` does.
///
/// # Errors
/// When a device fails.
pub fn seed_all(value: u64) -> Result<()> {
    devices().into_iter().try_for_each(|device| seed(device, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    // One test: the generator is the process's, and tests run side by side.
    #[test]
    fn seed_and_state_repeat_the_numbers() {
        // torch.manual_seed(0); torch.randint(0, 1000, (4,)) of PyTorch 2.11.
        let draw = || Vec::<i64>::try_from(Tensor::randint(1000, [4], (Kind::Int64, Device::Cpu))).unwrap();
        seed_all(0).unwrap();
        let kept = state(Device::Cpu).unwrap();
        let first = draw();
        assert_eq!(first, TORCH);
        let second = draw();
        set_state(Device::Cpu, &kept).unwrap();
        assert_eq!(draw(), first);
        assert_eq!(draw(), second);
        assert_eq!(kept.kind(), Kind::Uint8);
        assert!(set_state(Device::Cpu, &Tensor::zeros([3], (Kind::Uint8, Device::Cpu))).is_err());
    }

    const TORCH: [i64; 4] = [44, 239, 933, 760];
}
