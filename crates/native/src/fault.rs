//! Panics as errors: what a component does wrong ends its call, never the program without a word.
//!
//! tch's operators (`a + b`) panic where libtorch reports an error, so running out of memory in one is a panic too.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Once;

use anyhow::{Result, anyhow};

thread_local! {
    /// How many [`guarded`] calls this thread is in: their panics are told as errors and not printed besides.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Where the last panic inside a guarded call came from.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic becomes an error with its message and place. What `f` had borrowed is free again, and gradients are
/// recorded as before.
///
/// # Errors
/// Those of `f`, and its panic.
pub fn guarded<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    silence_guarded_panics();
    let recorded = crate::numeric::records_gradients();
    DEPTH.set(DEPTH.get() + 1);
    let caught = catch_unwind(AssertUnwindSafe(f));
    DEPTH.set(DEPTH.get() - 1);
    caught.unwrap_or_else(|panic| {
        // `tch::no_grad` does not do it where its closure panics.
        crate::numeric::set_records_gradients(recorded);
        let place = PLACE.take().map(|place| format!(" (at {place})")).unwrap_or_default();
        Err(match of_libtorch(panic_message(&*panic)) {
            Some(message) => anyhow!("libtorch: {message}{place}"),
            None => anyhow!("a fault of the program: {}{place}", panic_message(&*panic)),
        })
    })
}

fn silence_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                return before(info);
            }
            // tch's own file says nothing to anybody.
            let place = info.location().filter(|place| !place.file().contains("/tch-")).map(Location::to_string);
            PLACE.set(place);
            tracing::debug!("{info}\n{}", std::backtrace::Backtrace::capture());
        }));
    });
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("panicked without a message")
}

/// Whether libtorch found no memory for a tensor, on a GPU or the CPU.
pub fn is_out_of_memory(error: &anyhow::Error) -> bool {
    let told = |text: String| text.contains("out of memory") || text.contains("can't allocate memory");
    error.chain().any(|cause| told(cause.to_string()))
}

/// The first lines of an error of libtorch that tch unwrapped, without its trace of C++ functions.
fn of_libtorch(message: &str) -> Option<String> {
    let (_, quoted) = message.split_once("Torch(\"")?;
    let text = quoted.strip_suffix("\")").unwrap_or(quoted).replace("\\n", "\n").replace("\\\"", "\"");
    let text = text.split("\nException raised from").next().unwrap_or_default();
    Some(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn an_error_of_an_operator_keeps_its_words() {
        let (a, b) = (Tensor::zeros([2], (Kind::Float, Device::Cpu)), Tensor::zeros([3], (Kind::Float, Device::Cpu)));
        let error = guarded(|| Ok(&a + &b)).unwrap_err().to_string();
        assert!(error.starts_with("libtorch: The size of tensor a (2) must match"), "{error}");
        assert!(!error.contains("Exception raised"), "{error}");
        // More than any machine has.
        let huge = guarded(|| Ok(a.expand([1 << 60, 2], false) + 1.0)).unwrap_err().to_string();
        assert!(huge.starts_with("libtorch: "), "{huge}");
    }

    #[test]
    fn a_fault_names_its_place() {
        let error = guarded(|| -> Result<()> { panic!("{} is broken", "this") }).unwrap_err().to_string();
        assert!(error.starts_with("a fault of the program: this is broken (at crates/native/src/fault.rs:"), "{error}");
    }

    #[test]
    fn gradients_are_recorded_again() {
        let weight = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let failed = guarded(|| tch::no_grad(|| -> Result<()> { panic!("inside") }));
        assert!(failed.is_err());
        assert!((&weight * 2.0).requires_grad());
        assert_eq!(guarded(|| Ok(3)).unwrap(), 3);
    }
}
