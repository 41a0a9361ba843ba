//! Choosing a device by name, and copies between devices.

use std::path::Path;

use anyhow::{Result, bail};
use tch::{Cuda, Device, Tensor};

use crate::ffi;
use crate::library::{has_cuda_library, init};

/// The device a name stands for, and which it is and why, in words for people.
///
/// Names: `cpu`; `cuda` (the first GPU) and `cuda:1`; `auto`, the first accelerator where there is one and the CPU otherwise.
///
/// # Errors
/// An unknown name, or a GPU that is asked for and is not there, with the reason.
pub fn choose_device(name: &str) -> Result<(Device, String)> {
    init()?;
    match name {
        "cpu" => Ok((Device::Cpu, "cpu, as asked".to_owned())),
        "auto" if tch::utils::has_mps() => Ok((Device::Mps, "mps, the accelerator that libtorch knows".to_owned())),
        "auto" => Ok(match gpu_count() {
            Ok(count) => (Device::Cuda(0), format!("cuda:0, the first of {count} GPU(s)")),
            Err(why) => (Device::Cpu, format!("cpu, because {why}")),
        }),
        "cuda" => cuda(name, "0"),
        _ => match name.strip_prefix("cuda:") {
            Some(index) => cuda(name, index),
            None => bail!("unknown device `{name}`: use auto, cpu, cuda or cuda:N"),
        },
    }
}

/// `cpu`, `cuda:N` or `mps`.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Mps => "mps".to_owned(),
        _ => "cpu".to_owned(),
    }
}

/// Whether a device has memory and streams of its own, so that work on it goes on beside the program's: all that the program
/// may ask of a device outside this crate. Which accelerator it is, is libtorch's matter.
pub fn is_accelerator(device: Device) -> bool {
    device != Device::Cpu
}

/// Whether convolutions of this device are computed with the channels of a pixel side by side, whatever the input's order, as tensor
/// cores do: other orders are then changed there and back around each.
pub fn prefers_channels_last(device: Device) -> bool {
    device.is_cuda()
}

/// Whether this device's convolutions are planned anew for each shape of their input, which takes the host a millisecond or two a
/// convolution, as cuDNN's are.
pub fn plans_by_shape(device: Device) -> bool {
    device.is_cuda()
}

/// Whether libtorch's profiler tells of the calls by which the host waits for this device, by CUDA's names.
pub fn tells_waits(device: Device) -> bool {
    device.is_cuda()
}

/// How many GPUs can be used by number, as in `cuda:1`.
pub fn gpus() -> usize {
    init().map_or(0, |()| gpu_count().unwrap_or(0))
}

/// All accelerators of this machine that libtorch can use.
pub(crate) fn accelerators() -> Vec<Device> {
    (0..gpus()).map(Device::Cuda).chain(tch::utils::has_mps().then_some(Device::Mps)).collect()
}

fn cuda(name: &str, index: &str) -> Result<(Device, String)> {
    let Ok(index) = index.parse::<usize>() else {
        bail!("unknown device `{name}`: after `cuda:` comes a number, as in cuda:1");
    };
    match gpu_count() {
        Err(why) => bail!("the device `{name}` is not usable: {why}"),
        Ok(count) if index >= count => {
            bail!("the device `{name}` does not exist: there are {count} GPU(s), numbered from 0")
        }
        Ok(_) => Ok((Device::Cuda(index), format!("cuda:{index}, as asked"))),
    }
}

/// Whether this machine has an NVIDIA GPU, usable or not.
pub fn has_gpu() -> bool {
    ["/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/dxg"].iter().any(|path| Path::new(path).exists())
}

/// How many GPUs can be used, or why none can.
fn gpu_count() -> std::result::Result<usize, &'static str> {
    if !has_cuda_library() {
        return Err("this libtorch is without CUDA (`cargo xtask setup --cuda` fetches the one with it)");
    }
    match usize::try_from(Cuda::device_count()) {
        Ok(count) if count > 0 && Cuda::is_available() => Ok(count),
        _ => Err("no NVIDIA GPU or no working driver was found (does `nvidia-smi` list one?)"),
    }
}

/// A copy of a tensor of the CPU in pinned memory, from which copies to an accelerator need no wait.
///
/// # Errors
/// When there is no accelerator, or no memory.
pub fn pin(tensor: &Tensor) -> Result<Tensor> {
    let source = ffi::handle(tensor);
    // SAFETY: the handle lives as long as `tensor`; the shim only reads it.
    ffi::new_tensor(|out| unsafe { ffi::pn_pin(source, out) })
}

/// A copy of the tensor on `device`; the tensor itself where it is there already.
///
/// With `non_blocking`, a copy from the CPU to an accelerator goes through pinned memory and returns before it is done; work
/// queued later on the same stream sees it whole.
///
/// # Errors
/// When the device does not exist or has no room.
pub fn to_device(tensor: &Tensor, device: Device, non_blocking: bool) -> Result<Tensor> {
    let number = ffi::device_number(device)?;
    let source = ffi::handle(tensor);
    // SAFETY: the handle lives as long as `tensor`; the shim only reads it.
    ffi::new_tensor(|out| unsafe { ffi::pn_to_device(source, number, non_blocking, non_blocking, out) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood() {
        assert_eq!(choose_device("cpu").unwrap().0, Device::Cpu);
        let (device, words) = choose_device("auto").unwrap();
        assert_eq!(device.is_cuda(), Cuda::is_available());
        assert!(words.starts_with(if device.is_cuda() { "cuda:0" } else { "cpu, because" }), "{words}");
        for wrong in ["gpu", "cuda:x", "cuda:-1", "cuda:", ""] {
            assert!(choose_device(wrong).unwrap_err().to_string().contains("unknown device"), "{wrong}");
        }
        assert!(choose_device("cuda:99").is_err());
    }

    #[test]
    fn a_copy_to_the_cpu_is_equal() {
        init().unwrap();
        let t = Tensor::arange(6, (tch::Kind::Float, Device::Cpu)).view([2, 3]);
        assert_eq!(to_device(&t, Device::Cpu, true).unwrap(), t);
    }
}
