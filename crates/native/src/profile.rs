//! torch's own profiler: which operators and kernels ran, how long they took and how many floating-point operations they made.

use std::ffi::{CString, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::ffi;

/// Whether a profile is being taken, of whichever thread.
static ON: AtomicBool = AtomicBool::new(false);

/// What one operator or kernel came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Its name, such as `aten::conv2d`.
    pub name: String,
    /// Whether it ran on an accelerator: a kernel or a copy.
    pub on_device: bool,
    /// How often.
    pub times: u64,
    /// All together, what it called included.
    pub spent: Duration,
    /// Floating-point operations, of those that torch counts (convolutions and products of matrices above all).
    pub flops: u64,
}

/// What a [`range`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// The time in it, of the host: on an accelerator, until its work was queued.
    pub forward: Duration,
    /// That of the backward steps of what was done in it and in no range within it.
    pub backward: Duration,
    /// Floating-point operations of both.
    pub flops: u64,
}

/// A profile that is being taken: of the work that this thread queues, its backward passes included. There is one at a time.
#[derive(Debug)]
pub struct Profile {
    /// Stays on its thread.
    _thread: PhantomData<*const ()>,
}

/// Whether a profile is being taken.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

impl Profile {
    /// Begins to take a profile. Everything becomes slower.
    ///
    /// # Errors
    /// When one is being taken already, or libtorch has no profiler.
    pub fn begin() -> Result<Profile> {
        ensure!(!ON.swap(true, Ordering::Relaxed), "a profile is being taken already");
        let profile = Profile { _thread: PhantomData };
        // SAFETY: no arguments.
        ffi::check(unsafe { ffi::pn_profile_begin() }).inspect_err(|_| ON.store(false, Ordering::Relaxed))?;
        Ok(profile)
    }

    /// Ends it, and writes a trace that Chrome (`chrome://tracing`) and Perfetto open. What there was, by name, what took
    /// longest first.
    ///
    /// # Errors
    /// When the trace cannot be written.
    pub fn end(self, trace: Option<&Path>) -> Result<(Vec<Operator>, Vec<Part>)> {
        let sums = end(trace);
        std::mem::forget(self);
        sums
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if let Err(error) = end(None) {
            tracing::warn!("a profile could not be ended: {error:#}");
        }
    }
}

fn end(trace: Option<&Path>) -> Result<(Vec<Operator>, Vec<Part>)> {
    ON.store(false, Ordering::Relaxed);
    let path = trace.map(|path| CString::new(path.as_os_str().as_encoded_bytes())).transpose()?;
    let mut sums = null_mut();
    // SAFETY: the path, where there is one, and the result outlive the call.
    let error = unsafe { ffi::pn_profile_end(path.as_ref().map_or(std::ptr::null(), |path| path.as_ptr()), &mut sums) };
    ffi::check(error).context("ending a profile")?;
    let text = ffi::take_text(sums).unwrap_or_default();
    let mut lines = text.lines();
    let mut operators: Vec<Operator> =
        lines.by_ref().take_while(|line| !line.is_empty()).filter_map(operator).collect();
    operators.sort_by(|a, b| b.spent.cmp(&a.spent).then_with(|| a.name.cmp(&b.name)));
    let mut parts: Vec<Part> = lines.filter_map(part).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.forward + part.backward));
    Ok((operators, parts))
}

fn part(line: &str) -> Option<Part> {
    let mut values = line.split('\t');
    let name = values.next()?.to_owned();
    let mut number = || values.next()?.parse().ok();
    let (forward, backward) = (Duration::from_nanos(number()?), Duration::from_nanos(number()?));
    Some(Part { name, forward, backward, flops: number()? })
}

fn operator(line: &str) -> Option<Operator> {
    let mut parts = line.split('\t');
    Some(Operator {
        name: parts.next()?.to_owned(),
        on_device: parts.next()? == "1",
        times: parts.next()?.parse().ok()?,
        spent: Duration::from_nanos(parts.next()?.parse().ok()?),
        flops: parts.next()?.parse().ok()?,
    })
}

/// A named stretch of time in a profile, until it is dropped.
#[derive(Debug)]
pub struct Range(*mut c_void);

/// Begins a stretch of time with a name, where a profile is being taken.
pub fn range(name: &str) -> Option<Range> {
    let name = is_on().then(|| CString::new(name).ok()).flatten()?;
    // SAFETY: the name outlives the call; the range is ended by the thread that began it, since it is not `Send`.
    Some(Range(unsafe { ffi::pn_range_begin(name.as_ptr()) }))
}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: it is of `pn_range_begin`, or null, and ended once.
        unsafe { ffi::pn_range_end(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    /// 4 · 8 · 6 · 6 outputs of 3 · 3 · 3 products and sums each; its gradients cost twice that. Then transposed, 4 · 8 · 6 · 6 inputs that
    /// meet 5 · 2 · 2 weights each; of its gradients that of the weight is not wanted.
    #[test]
    fn operators_ranges_and_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let image = Tensor::ones([4, 3, 8, 8], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let weight = Tensor::ones([8, 3, 3, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let profile = Profile::begin().unwrap();
        assert!(Profile::begin().is_err(), "there is one already");
        let forward = range("forward pass");
        let output = image.conv2d(&weight, None::<&Tensor>, [1, 1], [0, 0], [1, 1], 1);
        drop(forward);
        let fixed = Tensor::ones([8, 5, 2, 2], (Kind::Float, Device::Cpu));
        let output = output.conv_transpose2d(&fixed, None::<&Tensor>, [2, 2], [0, 0], [0, 0], 1, [1, 1]);
        output.sum(Kind::Float).backward();
        let file = folder.path().join("trace.json");
        let (operators, parts) = profile.end(Some(&file)).unwrap();
        let find = |name: &str| operators.iter().find(|operator| operator.name == name).expect(name);
        let flops = 2 * 4 * 8 * 6 * 6 * 27;
        assert_eq!((find("aten::conv2d").flops, find("aten::conv2d").times), (flops, 1));
        let transposed = 2 * 4 * 8 * 6 * 6 * 20;
        assert_eq!(find("aten::conv_transpose2d").flops, transposed);
        assert_eq!(find("aten::convolution_backward").flops, 2 * flops + transposed);
        assert_eq!(find("forward pass").times, 1);
        // The transposed convolution is in no range; of the other and its backward step all is in one.
        assert_eq!((parts.len(), &*parts[0].name, parts[0].flops), (1, "forward pass", 3 * flops));
        assert!(parts[0].forward > Duration::ZERO && parts[0].backward > Duration::ZERO);
        let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let named = |name: &str| events.iter().any(|event| event["name"] == name && event["ph"] == "X");
        assert!(named("forward pass") && named("aten::conv2d"), "{} events", events.len());
        assert!(range("nobody listens").is_none());
    }
}
