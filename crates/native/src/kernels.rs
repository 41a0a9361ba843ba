//! Kernels of our own for NVIDIA GPUs (`csrc/kernels.cu`), where libtorch's and torchvision's are slow or many.
//!
//! They are compiled by CUDA's own NVRTC when they are first asked for, in a fraction of a second. Where that is not possible a line
//! is logged, once, and whoever asked computes with libtorch's operators, to the same end.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use crate::ffi;
use crate::library::library_dir;

const SOURCE: &str = include_str!("../csrc/kernels.cu");
/// What libtorch itself compiles with; it needs, and so opens, NVRTC and the driver.
const COMPILER: &str = "libcaffe2_nvrtc.so";

/// Whether the kernels can be called for these boxes, which are then all in single precision on one GPU.
pub fn ready(boxes: &[&Tensor]) -> bool {
    static LOADED: Mutex<BTreeMap<usize, bool>> = Mutex::new(BTreeMap::new());
    let Some(Device::Cuda(index)) = boxes.first().map(|boxes| boxes.device()) else { return false };
    if boxes.iter().any(|boxes| boxes.kind() != Kind::Float) {
        return false;
    }
    let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *loaded.entry(index).or_insert_with(|| match load(Device::Cuda(index)) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("boxes are matched and suppressed by libtorch's operators, which is slower: {error:#}");
            false
        }
    })
}

fn load(device: Device) -> Result<()> {
    let library = CString::new(library_dir()?.join(COMPILER).as_os_str().as_bytes())?;
    let source = CString::new(SOURCE)?;
    let number = ffi::device_number(device)?;
    // SAFETY: both texts are ended by zero and outlive the call.
    ffi::check(unsafe { ffi::pn_kernels_load(number, library.as_ptr(), source.as_ptr()) })
        .context("the GPU's kernels cannot be made")
}

/// Non-maximum suppression within groups: of boxes `[N, 4]`, whose `keys` (i64 `[N]`) ascend and which within a key come best first,
/// those that stay, bool `[N]`. A box goes where one that stays before it, of the same key, overlaps it by more than `threshold`; so
/// do all with a negative key. Waits for nothing.
///
/// # Errors
/// The shapes are others, or the boxes are not [`ready`].
pub fn suppress(boxes: &Tensor, keys: &Tensor, threshold: f64) -> Result<Tensor> {
    let (boxes, keys) = (ffi::handle(boxes), ffi::handle(keys));
    // SAFETY: both handles live as long as their tensors; the shim only reads them.
    ffi::new_tensor(|out| unsafe { ffi::pn_kernels_suppress(boxes, keys, at_most(threshold), out) })
}

/// The truth of `[T, 4]`, T at least 1, that each of `boxes` `[N, 4]` belongs to, i64 `[N]`: the one that overlaps it most where that is at
/// least `high`, −1 where it is below `low`, −2 between. With `low_quality` also the boxes that overlap a truth as much as no other
/// does belong to what overlaps them most.
///
/// # Errors
/// The shapes are others, or the boxes are not [`ready`].
pub fn matches(truth: &Tensor, boxes: &Tensor, (low, high): (f64, f64), low_quality: bool) -> Result<Tensor> {
    let (truth, boxes) = (ffi::handle(truth), ffi::handle(boxes));
    let (low, high) = (low as f32, high as f32);
    // SAFETY: both handles live as long as their tensors; the shim only reads them.
    ffi::new_tensor(|out| unsafe { ffi::pn_kernels_match(truth, boxes, low, high, low_quality, out) })
}

/// The largest number of single precision that is not above `limit`: the same numbers of single precision are above both.
fn at_most(limit: f64) -> f32 {
    let near = limit as f32;
    if f64::from(near) > limit { near.next_down() } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_rounded_down() {
        for limit in [0.3, 0.5, 0.7, 0.1 + 0.2] {
            let near = at_most(limit);
            assert!(f64::from(near) <= limit && f64::from(near.next_up()) > limit, "{limit}");
        }
    }

    #[test]
    fn the_cpu_has_none() {
        assert!(!ready(&[&Tensor::zeros([1, 4], (Kind::Float, Device::Cpu))]));
    }
}
