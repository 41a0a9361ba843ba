//! Switches that trade speed, precision and repeatability. All are of the whole process.

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

/// Lets f32 products and convolutions of a GPU use TF32: ten bits of mantissa, several times faster.
///
/// # Errors
/// As [`set_cudnn_benchmark`].
pub fn set_tf32(on: bool) -> Result<()> {
    // SAFETY: a plain flag.
    ffi::check(unsafe { ffi::pn_set_tf32(on) })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_turn() {
        for on in [true, false] {
            set_cudnn_benchmark(on).unwrap();
            set_tf32(on).unwrap();
        }
        set_deterministic(true, true).unwrap();
        set_deterministic(false, false).unwrap();
    }
}
