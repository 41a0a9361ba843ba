//! The border to the C++ shim: declarations, errors as `Result`, tensors as handles.
//!
//! Contract (see `csrc/shim.h`): a handle is the `at::Tensor*` that tch holds; every function returns null or an error
//! text made with `malloc`; none lets an exception through.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;

use anyhow::{Result, anyhow, bail};
use tch::{Device, Tensor};

/// `at::Tensor*`.
pub(crate) type Handle = *mut c_void;
/// Null, or a text to hand to `pn_free`.
pub(crate) type Error = *mut c_char;

/// Takes one named tensor, whose handle it owns from then on.
pub(crate) type Take = unsafe extern "C" fn(context: *mut c_void, name: *const c_char, tensor: Handle);

#[repr(C)]
pub(crate) struct SgdOptions {
    pub lr: f64,
    pub momentum: f64,
    pub dampening: f64,
    pub weight_decay: f64,
    pub nesterov: bool,
    pub maximize: bool,
    pub first_step: bool,
}

#[repr(C)]
pub(crate) struct AdamOptions {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub amsgrad: bool,
    pub maximize: bool,
    pub decoupled: bool,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamId {
    pub id: i64,
    pub device: c_int,
}

#[repr(C)]
#[derive(Default)]
pub(crate) struct MemoryStats {
    pub allocated: i64,
    pub peak_allocated: i64,
    pub reserved: i64,
    pub peak_reserved: i64,
}

#[rustfmt::skip]
unsafe extern "C" {
    pub(crate) fn pn_free(text: *mut c_char);
    pub(crate) fn pn_torch_version() -> *const c_char;
    pub(crate) fn pn_cuda_config(out: *mut *mut c_char) -> Error;

    pub(crate) fn pn_has_op(name: *const c_char, out: *mut bool) -> Error;
    pub(crate) fn pn_nms(boxes: Handle, scores: Handle, iou: f64, out: *mut Handle) -> Error;
    pub(crate) fn pn_roi_align(input: Handle, rois: Handle, scale: f64, pooled_h: i64, pooled_w: i64, sampling_ratio: i64, aligned: bool, out: *mut Handle) -> Error;
    pub(crate) fn pn_roi_align_cpu(input: Handle, rois: Handle, scale: f64, pooled_h: i64, pooled_w: i64, sampling_ratio: i64, aligned: bool, out: *mut Handle) -> Error;
    pub(crate) fn pn_roi_align_ordered(input: Handle, rois: Handle, scale: f64, pooled_h: i64, pooled_w: i64, sampling_ratio: i64, aligned: bool, out: *mut Handle) -> Error;
    pub(crate) fn pn_decode(bytes: *const u8, len: usize, format: *const c_char, exif: bool, out: *mut Handle) -> Error;
    pub(crate) fn pn_encode(image: Handle, format: *const c_char, quality: i64, out: *mut Handle) -> Error;

    pub(crate) fn pn_kernels_load(device: c_int, library: *const c_char, source: *const c_char) -> Error;
    pub(crate) fn pn_kernels_suppress(boxes: Handle, keys: Handle, threshold: f32, out: *mut Handle) -> Error;
    pub(crate) fn pn_kernels_match(truth: Handle, boxes: Handle, low: f32, high: f32, low_quality: bool, out: *mut Handle) -> Error;

    pub(crate) fn pn_sgd_step(params: *const Handle, grads: *const Handle, n: usize, momenta: *const Handle, n_momenta: usize, options: *const SgdOptions, grad_scale: Handle, found_inf: Handle) -> Error;
    pub(crate) fn pn_adam_step(params: *const Handle, grads: *const Handle, exp_avgs: *const Handle, exp_avg_sqs: *const Handle, max_exp_avg_sqs: *const Handle, steps: *const Handle, n: usize, options: *const AdamOptions, grad_scale: Handle, found_inf: Handle) -> Error;
    pub(crate) fn pn_clip_grad_norm(grads: *const Handle, n: usize, max_norm: f64, norm_type: f64, out: *mut Handle) -> Error;
    pub(crate) fn pn_ema_update(averages: *const Handle, params: *const Handle, n: usize, decay: f64) -> Error;
    pub(crate) fn pn_zero_grads(params: *const Handle, n: usize, set_to_none: bool) -> Error;
    pub(crate) fn pn_amp_unscale(grads: *const Handle, n: usize, found_inf: Handle, inv_scale: Handle) -> Error;
    pub(crate) fn pn_amp_update(scale: Handle, growth_tracker: Handle, found_inf: Handle, growth: f64, backoff: f64, interval: i64) -> Error;

    pub(crate) fn pn_autocast_enter(device: c_int, enabled: bool, kind: c_int, was_enabled: *mut bool, was_kind: *mut c_int) -> Error;
    pub(crate) fn pn_autocast_exit(device: c_int, was_enabled: bool, was_kind: c_int) -> Error;

    pub(crate) fn pn_generator_state(device: c_int, out: *mut Handle) -> Error;
    pub(crate) fn pn_generator_set_state(device: c_int, state: Handle) -> Error;
    pub(crate) fn pn_generator_seed(device: c_int, seed: u64) -> Error;

    pub(crate) fn pn_synchronize(device: c_int) -> Error;
    pub(crate) fn pn_stream_current(device: c_int, out: *mut StreamId) -> Error;
    pub(crate) fn pn_stream_from_pool(device: c_int, high_priority: bool, out: *mut StreamId) -> Error;
    pub(crate) fn pn_stream_exchange(stream: *const StreamId, previous: *mut StreamId) -> Error;
    pub(crate) fn pn_stream_synchronize(stream: *const StreamId) -> Error;
    pub(crate) fn pn_record_stream(tensor: Handle, stream: *const StreamId) -> Error;
    pub(crate) fn pn_event_new(device: c_int, out: *mut *mut c_void) -> Error;
    pub(crate) fn pn_event_delete(event: *mut c_void);
    pub(crate) fn pn_event_record(event: *mut c_void, stream: *const StreamId) -> Error;
    pub(crate) fn pn_event_block(event: *const c_void, stream: *const StreamId) -> Error;
    pub(crate) fn pn_event_query(event: *const c_void, out: *mut bool) -> Error;
    pub(crate) fn pn_event_synchronize(event: *const c_void) -> Error;
    pub(crate) fn pn_event_elapsed(from: *const c_void, to: *const c_void, out: *mut f64) -> Error;

    pub(crate) fn pn_profile_begin() -> Error;
    pub(crate) fn pn_profile_end(trace: *const c_char, sums: *mut *mut c_char) -> Error;
    pub(crate) fn pn_range_begin(name: *const c_char) -> *mut c_void;
    pub(crate) fn pn_range_end(range: *mut c_void);

    pub(crate) fn pn_memory_stats(device: c_int, out: *mut MemoryStats) -> Error;
    pub(crate) fn pn_memory_forget(device: c_int) -> Error;
    pub(crate) fn pn_memory_info(device: c_int, free: *mut u64, total: *mut u64) -> Error;

    pub(crate) fn pn_grad_mode() -> bool;
    pub(crate) fn pn_set_grad_mode(on: bool);
    pub(crate) fn pn_set_benchmark(on: bool) -> Error;
    pub(crate) fn pn_deterministic() -> bool;
    pub(crate) fn pn_set_deterministic(on: bool, warn_only: bool) -> Error;

    pub(crate) fn pn_script_load(path: *const c_char, out: *mut *mut c_void) -> Error;
    pub(crate) fn pn_script_delete(module: *mut c_void);
    pub(crate) fn pn_script_tensors(module: *const c_void, buffers: bool, context: *mut c_void, take: Take) -> Error;
    pub(crate) fn pn_script_train(module: *mut c_void, on: bool) -> Error;
    pub(crate) fn pn_script_to(module: *mut c_void, device: c_int) -> Error;
    pub(crate) fn pn_script_forward(module: *mut c_void, inputs: *const Handle, n: usize, context: *mut c_void, take: Take) -> Error;

    pub(crate) fn pn_store_tcp(host: *const c_char, port: u16, server: bool, timeout_ms: i64, out: *mut *mut c_void, bound: *mut u16) -> Error;
    pub(crate) fn pn_store_prefixed(store: *const c_void, prefix: *const c_char, out: *mut *mut c_void) -> Error;
    pub(crate) fn pn_store_delete(store: *mut c_void);
    pub(crate) fn pn_store_set(store: *const c_void, key: *const c_char, bytes: *const u8, len: usize) -> Error;
    pub(crate) fn pn_store_get(store: *const c_void, key: *const c_char, timeout_ms: i64, context: *mut c_void, take: unsafe extern "C" fn(*mut c_void, *const u8, usize)) -> Error;
    pub(crate) fn pn_store_add(store: *const c_void, key: *const c_char, amount: i64, out: *mut i64) -> Error;
    pub(crate) fn pn_group_gloo(store: *const c_void, rank: c_int, size: c_int, interface: *const c_char, host: *const c_char, timeout_ms: i64, out: *mut *mut c_void) -> Error;
    pub(crate) fn pn_nccl_id(out: *mut u8) -> Error;
    pub(crate) fn pn_group_nccl(id: *const u8, rank: c_int, size: c_int, device: c_int, out: *mut *mut c_void) -> Error;
    pub(crate) fn pn_group_delete(group: *mut c_void);
    pub(crate) fn pn_group_all_reduce(group: *const c_void, tensor: Handle) -> Error;
    pub(crate) fn pn_group_broadcast(group: *const c_void, tensor: Handle, root: c_int) -> Error;
    pub(crate) fn pn_group_shared_sum(group: *const c_void, own: Handle, out: *mut Handle) -> Error;
    pub(crate) fn pn_reducer_new(params: *const Handle, n: usize, group: *const c_void, first_bytes: usize, bucket_bytes: usize, out: *mut *mut c_void) -> Error;
    pub(crate) fn pn_reducer_delete(reducer: *mut c_void);
    pub(crate) fn pn_reducer_arm(reducer: *const c_void) -> Error;
    pub(crate) fn pn_reducer_finish(reducer: *const c_void, used: bool) -> Error;

    pub(crate) fn pn_pin(tensor: Handle, out: *mut Handle) -> Error;
    pub(crate) fn pn_to_device(tensor: Handle, device: c_int, pin: bool, non_blocking: bool, out: *mut Handle) -> Error;
}

/// The error of a call to the shim as a `Result`; a text is taken over and freed.
pub(crate) fn check(error: Error) -> Result<()> {
    match take_text(error) {
        None => Ok(()),
        Some(text) => Err(anyhow!("{}", text.trim_end())),
    }
}

/// A text that the shim made, freed after copying; `None` for null.
pub(crate) fn take_text(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: a pointer from the shim that is not null is a string ended by zero, made with `malloc` for us alone; it is
    // copied before it is freed and not used afterwards.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        pn_free(text);
        Some(copy)
    }
}

/// Runs a call of the shim that makes one tensor.
pub(crate) fn new_tensor(call: impl FnOnce(*mut Handle) -> Error) -> Result<Tensor> {
    let mut out: Handle = null_mut();
    check(call(&mut out))?;
    if out.is_null() {
        bail!("the native layer gave no tensor");
    }
    // SAFETY: the call succeeded and gave a fresh `at::Tensor*` made with `new`, which is what tch's Tensor owns and deletes.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

/// Runs a call of the shim that gives named tensors, one after another.
pub(crate) fn named_tensors(call: impl FnOnce(*mut c_void, Take) -> Error) -> Result<Vec<(String, Tensor)>> {
    unsafe extern "C" fn take(context: *mut c_void, name: *const c_char, tensor: Handle) {
        // SAFETY: the shim hands back the pointer to the list that lives in the frame of `named_tensors`, while that waits;
        // the name is a string ended by zero for the time of this call, and the handle is a fresh `at::Tensor*`, which is
        // what tch's Tensor owns and deletes.
        unsafe {
            let list = &mut *context.cast::<Vec<(String, Tensor)>>();
            list.push((CStr::from_ptr(name).to_string_lossy().into_owned(), Tensor::from_ptr(tensor.cast())));
        }
    }
    let mut list: Vec<(String, Tensor)> = Vec::new();
    check(call((&raw mut list).cast(), take))?;
    Ok(list)
}

/// The handle of a tensor, for the time of a call; the shim changes what it points to only where its Rust caller says so
/// (tensors share their data: tch's own in-place methods take `&mut self` only by convention).
pub(crate) fn handle(tensor: &Tensor) -> Handle {
    tensor.as_ptr().cast_mut().cast()
}

/// The handle, or null for none.
pub(crate) fn optional(tensor: Option<&Tensor>) -> Handle {
    tensor.map_or(null_mut(), handle)
}

/// The handles of a list.
pub(crate) fn handles(tensors: &[Tensor]) -> Vec<Handle> {
    tensors.iter().map(handle).collect()
}

/// The shim's number of a device, as tch's: -1 is the CPU, -2 MPS, n ≥ 0 is CUDA device n.
pub(crate) fn device_number(device: Device) -> Result<c_int> {
    match device {
        Device::Cpu => Ok(-1),
        Device::Mps => Ok(-2),
        // libtorch numbers devices with a signed byte.
        Device::Cuda(n) if n <= i8::MAX as usize => Ok(n as c_int),
        other => bail!("the device {other:?} is not supported: use the CPU or an accelerator"),
    }
}
