//! Optimizer steps over lists of tensors, each one call into libtorch's fused or foreach kernels.
//!
//! Every function works in place and without autograd. Lists are parallel: entry `i` of each belongs to parameter `i`.
//! Types and devices may differ from parameter to parameter. The rules are those of `torch.optim`.

use anyhow::{Result, ensure};
use tch::Tensor;

use crate::ffi;

/// What one step of stochastic gradient descent needs besides tensors.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Momentum; 0 for none, then the list of buffers is empty.
    pub momentum: f64,
    /// Part of the gradient that does not enter the momentum.
    pub dampening: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// Climb instead of descend.
    pub maximize: bool,
    /// The first step: buffers are set to the gradient, whatever they hold.
    pub first_step: bool,
}

/// What one step of Adam or AdamW needs besides tensors.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Decay rates of the two moments.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// L2 penalty (Adam) or decay of the weights themselves (AdamW).
    pub weight_decay: f64,
    /// Keep the largest second moment (Reddi et al. 2018).
    pub amsgrad: bool,
    /// Climb instead of descend.
    pub maximize: bool,
}

/// The state of Adam, one tensor a parameter.
#[derive(Clone, Copy, Debug)]
pub struct AdamState<'a> {
    /// First moments, shaped as the parameters.
    pub exp_avgs: &'a [Tensor],
    /// Second moments, shaped as the parameters.
    pub exp_avg_sqs: &'a [Tensor],
    /// Largest second moments, shaped as the parameters; empty without `amsgrad`.
    pub max_exp_avg_sqs: &'a [Tensor],
    /// Steps done: f32 scalars on the parameter's device, raised by this step.
    pub steps: &'a [Tensor],
}

/// What the gradient scaler tells a step: both are f32 scalars on the device of the scaler.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amp<'a> {
    /// Gradients are divided by it first (in place); `None` when they are unscaled already.
    pub grad_scale: Option<&'a Tensor>,
    /// 1 makes the step do nothing at all, without the device having to be asked.
    pub found_inf: Option<&'a Tensor>,
}

/// One step of stochastic gradient descent (`torch.optim.SGD`).
///
/// `momentum_buffers` has one tensor a parameter, or none at all when `momentum` is 0.
///
/// # Errors
/// Lists of different lengths, or tensors that do not fit together.
pub fn sgd_step(
    params: &[Tensor],
    grads: &[Tensor],
    momentum_buffers: &[Tensor],
    sgd: &Sgd,
    amp: Amp<'_>,
) -> Result<()> {
    same_length("sgd_step", params, &[("gradients", grads)])?;
    if sgd.momentum != 0.0 {
        same_length("sgd_step", params, &[("momentum buffers", momentum_buffers)])?;
    }
    let momenta = if sgd.momentum == 0.0 { &[] } else { momentum_buffers };
    let options = ffi::SgdOptions {
        lr: sgd.lr,
        momentum: sgd.momentum,
        dampening: sgd.dampening,
        weight_decay: sgd.weight_decay,
        nesterov: sgd.nesterov,
        maximize: sgd.maximize,
        first_step: sgd.first_step && sgd.momentum != 0.0,
    };
    let (p, g, m) = (ffi::handles(params), ffi::handles(grads), ffi::handles(momenta));
    let (scale, inf) = (ffi::optional(amp.grad_scale), ffi::optional(amp.found_inf));
    // SAFETY: the lists hold as many live handles as the lengths given say; libtorch checks shapes and types.
    ffi::check(unsafe { ffi::pn_sgd_step(p.as_ptr(), g.as_ptr(), p.len(), m.as_ptr(), m.len(), &options, scale, inf) })
}

/// One step of Adam (`torch.optim.Adam`): weight decay joins the gradient.
///
/// # Errors
/// As [`sgd_step`].
pub fn adam_step(params: &[Tensor], grads: &[Tensor], state: AdamState<'_>, adam: &Adam, amp: Amp<'_>) -> Result<()> {
    adam_like(params, grads, state, adam, amp, false)
}

/// One step of AdamW (`torch.optim.AdamW`): weight decay shrinks the weights themselves.
///
/// # Errors
/// As [`sgd_step`].
pub fn adamw_step(params: &[Tensor], grads: &[Tensor], state: AdamState<'_>, adam: &Adam, amp: Amp<'_>) -> Result<()> {
    adam_like(params, grads, state, adam, amp, true)
}

fn adam_like(
    params: &[Tensor],
    grads: &[Tensor],
    state: AdamState<'_>,
    adam: &Adam,
    amp: Amp<'_>,
    decoupled: bool,
) -> Result<()> {
    let mut lists = vec![
        ("gradients", grads),
        ("first moments", state.exp_avgs),
        ("second moments", state.exp_avg_sqs),
        ("step counts", state.steps),
    ];
    if adam.amsgrad {
        lists.push(("largest second moments", state.max_exp_avg_sqs));
    }
    same_length("adam_step", params, &lists)?;
    let options = ffi::AdamOptions {
        lr: adam.lr,
        beta1: adam.betas.0,
        beta2: adam.betas.1,
        eps: adam.eps,
        weight_decay: adam.weight_decay,
        amsgrad: adam.amsgrad,
        maximize: adam.maximize,
        decoupled,
    };
    let [p, g] = [params, grads].map(ffi::handles);
    let [m, v, top, t] = [state.exp_avgs, state.exp_avg_sqs, state.max_exp_avg_sqs, state.steps].map(ffi::handles);
    let (scale, inf) = (ffi::optional(amp.grad_scale), ffi::optional(amp.found_inf));
    // SAFETY: every list that the shim reads holds `p.len()` live handles, as checked above (the largest moments only
    // with `amsgrad`, without which the shim does not look at them); libtorch checks shapes and types.
    ffi::check(unsafe {
        ffi::pn_adam_step(
            p.as_ptr(),
            g.as_ptr(),
            m.as_ptr(),
            v.as_ptr(),
            top.as_ptr(),
            t.as_ptr(),
            p.len(),
            &options,
            scale,
            inf,
        )
    })
}

/// Scales all gradients so that their common L2 norm is at most `max_norm`; returns the norm before, a scalar on the
/// device of the first gradient (`torch.nn.utils.clip_grad_norm_`). An infinite `max_norm` only measures.
///
/// # Errors
/// When a gradient is of a type without a norm.
pub fn clip_grad_norm_(grads: &[Tensor], max_norm: f64) -> Result<Tensor> {
    let g = ffi::handles(grads);
    // SAFETY: the list holds `g.len()` live handles.
    ffi::new_tensor(|out| unsafe { ffi::pn_clip_grad_norm(g.as_ptr(), g.len(), max_norm, 2.0, out) })
}

/// Moves averages towards parameters: `ema = decay · ema + (1 − decay) · param`. Integer tensors are copied.
///
/// # Errors
/// Lists of different lengths or shapes.
pub fn ema_update(ema: &[Tensor], params: &[Tensor], decay: f64) -> Result<()> {
    same_length("ema_update", params, &[("averages", ema)])?;
    let (e, p) = (ffi::handles(ema), ffi::handles(params));
    // SAFETY: both lists hold `e.len()` live handles, as checked above.
    ffi::check(unsafe { ffi::pn_ema_update(e.as_ptr(), p.as_ptr(), e.len(), decay) })
}

/// Clears the gradients of parameters: removes them (`set_to_none`, which saves memory and a pass over it), or fills
/// them with zeros.
///
/// # Errors
/// Only when the device fails.
pub fn zero_grads(params: &[Tensor], set_to_none: bool) -> Result<()> {
    let p = ffi::handles(params);
    // SAFETY: the list holds `p.len()` live handles.
    ffi::check(unsafe { ffi::pn_zero_grads(p.as_ptr(), p.len(), set_to_none) })
}

fn same_length(what: &str, params: &[Tensor], lists: &[(&str, &[Tensor])]) -> Result<()> {
    for (name, list) in lists {
        ensure!(list.len() == params.len(), "{what}: {} parameters and {} {name}", params.len(), list.len());
    }
    Ok(())
}
