//! Switches that trade speed, precision and repeatability, of the whole process; and of the thread, whether gradients are
//! recorded.

use anyhow::Result;

use crate::ffi;

/// Lets cuDNN try its algorithms on each new shape and keep the fastest. Good when shapes repeat.
///
/// # Errors
/// Never in practice; a failure inside libtorch is passed on.
pub fn set_cudnn_benchmark(on: bool) -> Result<()> {
    // SAFETY: a plain flag.
    ffi::check(unsafe { ffi::pn_set_benchmark(on) })
}

/// Asks for the same numbers on every run. Operators that have no such form fail, or only warn with `warn_only`.
/// Turning it on turns cuDNN's benchmark off. Call it before the first use of a GPU, and before other threads start: it
/// may set the environment variable `CUBLAS_WORKSPACE_CONFIG`, which cuBLAS reads once.
///
/// # Errors
/// As [`set_cudnn_benchmark`].
pub fn set_deterministic(on: bool, warn_only: bool) -> Result<()> {
    // SAFETY: plain flags; the variable is set only where it is not, by the rule above before other threads read it.
    ffi::check(unsafe { ffi::pn_set_deterministic(on, warn_only) })
}

/// Whether the same numbers are asked for on every run.
pub fn is_deterministic() -> bool {
    // SAFETY: reads a flag.
    unsafe { ffi::pn_deterministic() }
}

/// Whether operators of this thread are recorded for gradients.
pub fn records_gradients() -> bool {
    // SAFETY: reads a flag of this thread.
    unsafe { ffi::pn_grad_mode() }
}

/// Sets whether operators of this thread are recorded for gradients; [`tch::no_grad`] is for ordinary use, this one to
/// restore what a panic left behind.
pub fn set_records_gradients(on: bool) {
    // SAFETY: writes a flag of this thread.
    unsafe { ffi::pn_set_grad_mode(on) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_turn() {
        for on in [true, false] {
            set_cudnn_benchmark(on).unwrap();
        }
        set_deterministic(true, true).unwrap();
        set_deterministic(false, false).unwrap();
    }
}
