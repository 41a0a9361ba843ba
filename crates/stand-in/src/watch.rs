//! Counts of what would stop a GPU, by operator and by the place in the program that called it.

use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use crate::exports::exports;

/// What a GPU would have been stopped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The host waits until the device has done its work.
    Wait,
    /// Memory that is not pinned is copied to the device: the host waits for the copy, and nothing runs beside it.
    PageableUpload,
}

/// How often an operator did so at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// What it was.
    pub kind: Kind,
    /// The operator, such as `aten::nonzero`, `copy to the CPU` or `copy to the device`.
    pub operator: String,
    /// Where the program called it, as `crates/vision/src/boxes.rs:120 from crates/vision/src/sampler.rs:40`; `backward` for the
    /// threads of autograd.
    pub place: String,
    /// How often.
    pub times: usize,
}

type Counts = BTreeMap<(Kind, String, String), usize>;

static COUNTS: Mutex<Counts> = Mutex::new(BTreeMap::new());

fn counts() -> MutexGuard<'static, Counts> {
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts what happens in the whole process, for as long as it lives.
#[derive(Debug)]
pub struct Watch(());

impl Watch {
    /// Begins to count.
    ///
    /// # Errors
    /// When the stand-in cannot be opened.
    pub fn begin() -> Result<Watch> {
        let exports = exports()?;
        counts().clear();
        // SAFETY: the observer is a function of this library, which is there for as long as the process.
        unsafe { (exports.observe)(Some(observe)) };
        Ok(Watch(()))
    }

    /// What was counted since the last call, or since the beginning, by kind, operator and place.
    pub fn take(&self) -> Vec<Count> {
        let found = std::mem::take(&mut *counts());
        let count = |((kind, operator, place), times)| Count { kind, operator, place, times };
        found.into_iter().map(count).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Ok(exports) = exports() {
            // SAFETY: from now on nobody is called.
            unsafe { (exports.observe)(None) };
        }
    }
}

extern "C" fn observe(kind: c_int, operator: *const c_char) {
    let kind = if kind == 0 { Kind::Wait } else { Kind::PageableUpload };
    // SAFETY: the library hands over a string ended by zero that lives during the call.
    let operator = unsafe { CStr::from_ptr(operator) }.to_string_lossy().into_owned();
    let place = place(&Backtrace::force_capture().to_string());
    *counts().entry((kind, operator, place)).or_default() += 1;
}

/// The innermost place of the program in a backtrace, and from which other file it was called; crates that only pass calls on are no
/// places.
fn place(backtrace: &str) -> String {
    let mut places = backtrace.lines().filter_map(own_place);
    let Some(innermost) = places.next() else { return "backward".to_owned() };
    let file = |place: &str| place.rsplit_once(':').map(|(file, _line)| file.to_owned());
    match places.find(|place| file(place) != file(&innermost)) {
        Some(caller) => format!("{innermost} from {caller}"),
        None => innermost,
    }
}

/// The file and line of a backtrace's line, if they are the program's.
fn own_place(line: &str) -> Option<String> {
    let file = line.trim().strip_prefix("at ")?;
    let start = ["crates/", "plugins/", "src/", "tests/"].iter().filter_map(|start| file.find(start)).min()?;
    let (place, _column) = file[start..].rsplit_once(':')?;
    let passes_on = ["crates/stand-in/", "crates/native/"].iter().any(|own| place.starts_with(own));
    let is_other = file.contains("/.cargo/") || file.contains("/rustc/");
    (!passes_on && !is_other).then(|| place.to_owned())
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn places_are_the_programs_own() {
        let trace = "   1: pipe_stand_in::watch::observe\n             at ./crates/stand-in/src/watch.rs:69:5\n   \
                     2: tch::wrappers::tensor::item\n             at /home/a/.cargo/registry/src/tch-0.24/src/tensor.rs:1:2\n   \
                     3: pipe_vision::sampler::sample\n             at ./crates/vision/src/sampler.rs:40:9\n";
        assert_eq!(place(trace), "crates/vision/src/sampler.rs:40");
        let trace = format!(
            "{trace}   4: sample\n             at ./crates/vision/src/sampler.rs:9:9\n   \
                             5: proposals\n             at ./crates/vision/src/rpn.rs:7:9\n"
        );
        assert_eq!(place(&trace), "crates/vision/src/sampler.rs:40 from crates/vision/src/rpn.rs:7");
        assert_eq!(place("   1: torch::autograd::Engine::evaluate_function\n"), "backward");
    }
}
