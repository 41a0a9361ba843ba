//! The stand-in accelerator: a second device made of host memory, so that what the program does with a GPU is tested where
//! there is none. For tests only.
//!
//! It is a shared library (`csrc/`) that registers itself with libtorch under a name that tch already has,
//! [`Device::Mps`](tch::Device::Mps), of which a build for Linux has no kernels. No program links it and none knows of it: a
//! test puts it before the program with `LD_PRELOAD` (see [`library`]), where `--device auto` finds it as it finds any
//! accelerator, or opens it in its own process ([`open`]). So what is tested is the very program that is released.
//!
//! - Operators run on the CPU's kernels, on the same memory, so results are the CPU's bit for bit; random numbers come from
//!   the CPU's generator. A tensor of the CPU among the device's is libtorch's error, as on a GPU.
//! - Memory that nobody has written is NaN, and so is memory that was freed. The allocator has a capacity and a peak
//!   (`pipe_native::memory` reads it; [`set_capacity`]).
//! - Streams, events and pinned memory: a non-blocking copy from or to pinned memory is carried out only when its stream is
//!   waited for, or works on; until then the destination is NaN. Pinned memory that is written to before that is an error.
//! - [`Watch`] counts what would stop a GPU: waits of the host for the device, and uploads from pageable memory.
//!
//! What it does not show: how fast anything is, what CUDA's kernels round otherwise, and races between kernels, which run
//! when they are called.

mod exports;
mod watch;

use std::path::Path;

use anyhow::Result;

use exports::exports;

pub use watch::{Count, Kind, Watch};

/// The shared library, for `LD_PRELOAD`.
pub fn library() -> &'static Path {
    exports::library()
}

/// What stands for NCCL, for `LD_PRELOAD` behind [`library`]: ranks are processes of this machine.
pub fn nccl() -> &'static Path {
    Path::new(env!("PIPE_STAND_IN_NCCL"))
}

/// Makes the device known to this process. Call it before the first tensor: libtorch asks only once which devices there are.
///
/// # Errors
/// When the library cannot be opened.
pub fn open() -> Result<()> {
    exports().map(drop)
}

/// How many bytes the device has from now on, or from its beginning by the variable `STAND_IN_CAPACITY`; an allocation beyond them is
/// libtorch's out-of-memory error.
///
/// # Errors
/// As [`open`].
pub fn set_capacity(bytes: u64) -> Result<()> {
    // SAFETY: a plain number.
    unsafe { (exports()?.set_capacity)(bytes) };
    Ok(())
}
