//! Memory in use, in bytes. On a GPU it is what libtorch's allocator has given out; on the CPU, where libtorch does not
//! count, what the whole process holds (resident set).

use std::fs;

use anyhow::{Context, Result, anyhow};
use tch::Device;

use crate::ffi;

/// Bytes in use now.
///
/// # Errors
/// When the device does not exist, or (CPU) the system does not say.
pub fn allocated(device: Device) -> Result<u64> {
    match device {
        Device::Cpu => process_status("VmRSS:"),
        _ => stats(device).map(|s| s.allocated.unsigned_abs()),
    }
}

/// The most bytes in use since the start, or since [`forget`].
///
/// # Errors
/// As [`allocated`].
pub fn max_allocated(device: Device) -> Result<u64> {
    match device {
        Device::Cpu => process_status("VmHWM:"),
        _ => stats(device).map(|s| s.peak_allocated.unsigned_abs()),
    }
}

/// Gives the device back what libtorch keeps of its memory for later, and lets the peak begin anew at what is in use. Nothing on the
/// CPU.
///
/// # Errors
/// As [`allocated`].
pub fn forget(device: Device) -> Result<()> {
    match device {
        Device::Cpu => Ok(()),
        // SAFETY: it takes a number.
        _ => ffi::check(unsafe { ffi::pn_memory_forget(ffi::device_number(device)?) }),
    }
}

/// Bytes that libtorch holds of the device, given out or kept for later. On the CPU as [`allocated`].
///
/// # Errors
/// As [`allocated`].
pub fn reserved(device: Device) -> Result<u64> {
    match device {
        Device::Cpu => process_status("VmRSS:"),
        _ => stats(device).map(|s| s.reserved.unsigned_abs()),
    }
}

/// Free and total bytes of the device; of the machine for the CPU.
///
/// # Errors
/// As [`allocated`].
pub fn free_and_total(device: Device) -> Result<(u64, u64)> {
    if device == Device::Cpu {
        let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
        return Ok((kib(&text, "MemAvailable:")?, kib(&text, "MemTotal:")?));
    }
    let (mut free, mut total) = (0, 0);
    // SAFETY: both results outlive the call.
    ffi::check(unsafe { ffi::pn_memory_info(ffi::device_number(device)?, &mut free, &mut total) })?;
    Ok((free, total))
}

/// Bytes of the device that work can count on, those in use included. CUDA's allocator keeps blocks that fit no later need, and libraries
/// take memory of their own as they meet new shapes: of what there is, 5 % are left to both.
///
/// # Errors
/// As [`allocated`].
pub fn dependable(device: Device) -> Result<u64> {
    let there = free_and_total(device)?.0 + reserved(device)?;
    Ok(if device.is_cuda() { there / 20 * 19 } else { there })
}

fn stats(device: Device) -> Result<ffi::MemoryStats> {
    let mut stats = ffi::MemoryStats::default();
    // SAFETY: `stats` outlives the call.
    ffi::check(unsafe { ffi::pn_memory_stats(ffi::device_number(device)?, &mut stats) })?;
    Ok(stats)
}

fn process_status(field: &str) -> Result<u64> {
    kib(&fs::read_to_string("/proc/self/status").context("read /proc/self/status")?, field)
}

/// The bytes of a line such as `VmRSS:    1234 kB`.
fn kib(text: &str, field: &str) -> Result<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| anyhow!("the system does not say {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_measured() {
        let before = allocated(Device::Cpu).unwrap();
        let held = vec![1u8; 64 << 20];
        assert!(allocated(Device::Cpu).unwrap() > before + (32 << 20), "{}", held.len());
        assert!(max_allocated(Device::Cpu).unwrap() >= before + (32 << 20));
        let (free, total) = free_and_total(Device::Cpu).unwrap();
        assert!(free <= total && total > 64 << 20);
    }
}
