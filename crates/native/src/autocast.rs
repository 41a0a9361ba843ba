//! Mixed precision: operators that gain from it run in a half type, the others in f32, as libtorch's lists say.

use std::ffi::c_int;
use std::marker::PhantomData;

use anyhow::{Result, bail};
use tch::{Device, Kind};

use crate::ffi;

/// Runs `f` with autocast to `kind` on `device`, or without autocast for `None`. What was set before is set again
/// afterwards, also when `f` panics; casts of weights are cached until the outermost region ends.
///
/// # Errors
/// When `kind` is neither `BFloat16` nor `Half`. `f` is then not run.
pub fn autocast<T>(device: Device, kind: Option<Kind>, f: impl FnOnce() -> T) -> Result<T> {
    let _guard = AutocastGuard::enter(device, kind)?;
    Ok(f())
}

/// A region of autocast that lasts until it is dropped. Belongs to the thread that made it; drop in reverse order.
#[derive(Debug)]
#[must_use = "autocast ends when the guard is dropped"]
pub struct AutocastGuard {
    device: c_int,
    was_enabled: bool,
    was_kind: c_int,
    thread_bound: PhantomData<*const ()>,
}

impl AutocastGuard {
    /// Begins a region; see [`autocast`].
    ///
    /// # Errors
    /// As [`autocast`].
    pub fn enter(device: Device, kind: Option<Kind>) -> Result<Self> {
        // c10::ScalarType's numbers.
        let number = match kind {
            None => 0,
            Some(Kind::Half) => 5,
            Some(Kind::BFloat16) => 15,
            Some(other) => bail!("autocast is to BFloat16 or Half, not to {other:?}"),
        };
        let mut guard =
            Self { device: ffi::device_number(device)?, was_enabled: false, was_kind: 0, thread_bound: PhantomData };
        let (enabled, kind) = (&mut guard.was_enabled, &mut guard.was_kind);
        // SAFETY: both results outlive the call.
        let entered = ffi::check(unsafe { ffi::pn_autocast_enter(guard.device, number != 0, number, enabled, kind) });
        if let Err(error) = entered {
            // Nothing was entered: nothing is to be left.
            std::mem::forget(guard);
            return Err(error);
        }
        Ok(guard)
    }
}

impl Drop for AutocastGuard {
    fn drop(&mut self) {
        // SAFETY: plain values that `enter` gave. The call sets thread-local flags and cannot fail once `enter` has not.
        let _ = ffi::check(unsafe { ffi::pn_autocast_exit(self.device, self.was_enabled, self.was_kind) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    fn product_kind() -> Kind {
        let a = Tensor::ones([4, 4], (Kind::Float, Device::Cpu));
        a.matmul(&a).kind()
    }

    #[test]
    fn regions_nest_and_are_left_on_panic() {
        assert_eq!(product_kind(), Kind::Float);
        let inner = autocast(Device::Cpu, Some(Kind::BFloat16), || {
            let half = autocast(Device::Cpu, Some(Kind::Half), product_kind).unwrap();
            let off = autocast(Device::Cpu, None, product_kind).unwrap();
            (product_kind(), half, off, product_kind())
        });
        assert_eq!(inner.unwrap(), (Kind::BFloat16, Kind::Half, Kind::Float, Kind::BFloat16));
        assert_eq!(product_kind(), Kind::Float);
        let panicked = std::panic::catch_unwind(|| {
            autocast(Device::Cpu, Some(Kind::BFloat16), || -> () { std::panic::resume_unwind(Box::new("stop")) })
        });
        assert!(panicked.is_err());
        assert_eq!(product_kind(), Kind::Float);
    }

    #[test]
    fn weights_get_gradients_in_their_own_type() {
        let w = Tensor::ones([3, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let x = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
        let loss = autocast(Device::Cpu, Some(Kind::BFloat16), || x.matmul(&w).sum(Kind::Float)).unwrap();
        loss.backward();
        assert_eq!(w.grad().kind(), Kind::Float);
        assert_eq!(f64::try_from(w.grad().sum(Kind::Float)).unwrap(), 18.0);
    }

    #[test]
    fn other_types_are_refused() {
        let error = autocast(Device::Cpu, Some(Kind::Int), || ()).unwrap_err().to_string();
        assert!(error.contains("BFloat16 or Half"), "{error}");
    }
}
