//! The native layer: everything unsafe over libtorch that tch lacks, behind a safe interface.
//!
//! | module | what it offers |
//! |---|---|
//! | [`library`] | opening CUDA's and torchvision's libraries, versions |
//! | [`device`] | choosing a device by name, copies between devices |
//! | [`ops`] | `nms`, `batched_nms`, `roi_align` |
//! | [`distributed`] | a store of keys, collectives, the reduction of gradients |
//! | [`kernels`] | kernels of our own for NVIDIA GPUs |
//! | [`image`] | decoding and encoding JPEG and PNG |
//! | [`optim`] | fused optimizer steps, clipping, averages, zeroing |
//! | [`scaler`] | the gradient scaler of mixed precision |
//! | [`autocast`] | mixed precision with a chosen type |
//! | [`generator`] | seeds and states of the random generators |
//! | [`stream`] | streams, events, waiting for a device |
//! | [`threads`] | how OpenMP's threads wait for work |
//! | [`memory`] | what the allocator of a device holds |
//! | [`profile`] | torch's profiler: operators, kernels, traces |
//! | [`script`] | modules of TorchScript files |
//! | [`numeric`] | cuDNN's benchmark mode, TF32, determinism |
//!
//! A file of C++ (`csrc/`) stands behind each group; `ffi` is the border, and the only place that names it.
//! Call [`init`] first: without it a GPU is not seen.

pub mod autocast;
pub mod buffer;
pub mod device;
pub mod distributed;
pub mod fault;
mod ffi;
pub mod generator;
pub mod image;
pub mod kernels;
pub mod library;
pub mod memory;
pub mod moments;
pub mod numeric;
pub mod ops;
pub mod optim;
pub mod profile;
pub mod scaler;
pub mod script;
pub mod stream;
pub mod threads;

/// Writes out what C and C++ have printed and still hold, such as the output of a TorchScript module's `print`: before
/// [`exit_now`], which drops it.
pub fn flush_output() {
    // SAFETY: without a stream, every open one is flushed.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Sends a signal to another process; one that is gone hears nothing.
pub fn signal(process: u32, number: i32) {
    let Ok(process) = i32::try_from(process) else { return };
    // SAFETY: plain numbers; the process is one, not a group or all, since its number is above 0.
    unsafe { libc::kill(process, number) };
}

/// Ends the process at once: no destructors, no functions registered for the end, which would take libtorch's memory away
/// from a step that is still at work.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` only ends the process.
    unsafe { libc::_exit(status) }
}

pub use autocast::autocast;
pub use device::{choose_device, device_name, has_gpu, is_accelerator, to_device};
pub use library::{init, libraries, load_torchvision, load_torchvision_image, version};
pub use scaler::GradScaler;
pub use script::ScriptModule;
