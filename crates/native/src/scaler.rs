//! The gradient scaler of mixed precision: keeps small gradients of half type from vanishing.
//!
//! The loss is multiplied by a scale; gradients are divided by it before the step. A step whose gradients are not finite
//! is skipped and the scale falls; after a run of good steps it grows (`torch.amp.GradScaler`).

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use crate::ffi;

/// What a checkpoint keeps of a scaler, under the names of `torch.amp.GradScaler.state_dict`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GradScalerState {
    /// The scale now.
    pub scale: f64,
    /// The scale is multiplied by it after `growth_interval` good steps.
    pub growth_factor: f64,
    /// The scale is multiplied by it after a step that was not finite.
    pub backoff_factor: f64,
    /// Good steps in a row before the scale grows.
    pub growth_interval: i64,
    /// Good steps in a row until now (`_growth_tracker`).
    pub growth_tracker: i64,
}

impl Default for GradScalerState {
    fn default() -> Self {
        Self { scale: 65536.0, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2000, growth_tracker: 0 }
    }
}

/// Scales losses and unscales gradients. One step: [`scale`](Self::scale) the loss, backward,
/// [`unscale`](Self::unscale) the gradients, step with [`found_inf`](Self::found_inf), [`update`](Self::update).
#[derive(Debug)]
pub struct GradScaler {
    factors: GradScalerState,
    scale: Tensor,
    growth_tracker: Tensor,
    found_inf: Tensor,
}

impl GradScaler {
    /// A scaler on `device` that starts from `state`.
    ///
    /// # Errors
    /// Factors that would not do what their names say.
    pub fn new(device: Device, state: GradScalerState) -> Result<Self> {
        ensure!(state.growth_factor > 1.0, "growth_factor must be above 1, got {}", state.growth_factor);
        ensure!(
            state.backoff_factor > 0.0 && state.backoff_factor < 1.0,
            "backoff_factor must lie between 0 and 1, got {}",
            state.backoff_factor
        );
        ensure!(state.growth_interval > 0, "growth_interval must be above 0, got {}", state.growth_interval);
        ensure!(state.scale > 0.0 && state.scale.is_finite(), "the scale must be above 0, got {}", state.scale);
        Ok(Self {
            factors: state,
            scale: Tensor::f_full([0i64; 0], state.scale, (Kind::Float, device))?,
            growth_tracker: Tensor::f_full([0i64; 0], state.growth_tracker, (Kind::Int, device))?,
            found_inf: Tensor::f_zeros([0i64; 0], (Kind::Float, device))?,
        })
    }

    /// The loss times the scale, to call backward on.
    ///
    /// # Errors
    /// When the loss is on another device.
    pub fn scale(&self, loss: &Tensor) -> Result<Tensor> {
        Ok(loss.f_mul(&self.scale)?)
    }

    /// Divides the gradients by the scale, in place, and notes whether one is not finite. May be called for several
    /// lists of one step; each gradient once.
    ///
    /// # Errors
    /// When the gradients are not of a floating-point type.
    pub fn unscale(&mut self, grads: &[Tensor]) -> Result<()> {
        let inverse = self.scale.f_to_kind(Kind::Double)?.f_reciprocal()?.f_to_kind(Kind::Float)?;
        let list = ffi::handles(grads);
        let (found, inv) = (ffi::handle(&self.found_inf), ffi::handle(&inverse));
        // SAFETY: the list holds `list.len()` live handles; `found_inf` is ours, held by `&mut self`.
        ffi::check(unsafe { ffi::pn_amp_unscale(list.as_ptr(), list.len(), found, inv) })
    }

    /// 1 when a gradient of this step was not finite, else 0: an f32 scalar on the device, for the optimizer's step.
    pub fn found_inf(&self) -> &Tensor {
        &self.found_inf
    }

    /// Ends a step: sets the scale for the next one and forgets what was found.
    ///
    /// # Errors
    /// When the device fails.
    pub fn update(&mut self) -> Result<()> {
        let (scale, tracker, found) =
            (ffi::handle(&self.scale), ffi::handle(&self.growth_tracker), ffi::handle(&self.found_inf));
        let f = &self.factors;
        // SAFETY: the three tensors are ours, held by `&mut self`.
        ffi::check(unsafe {
            ffi::pn_amp_update(scale, tracker, found, f.growth_factor, f.backoff_factor, f.growth_interval)
        })?;
        let _ = self.found_inf.f_zero_()?;
        Ok(())
    }

    /// What a checkpoint keeps. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state(&self) -> Result<GradScalerState> {
        Ok(GradScalerState {
            scale: f64::try_from(&self.scale)?,
            growth_tracker: i64::try_from(&self.growth_tracker)?,
            ..self.factors
        })
    }

    /// Goes on from what a checkpoint kept.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn load_state(&mut self, state: GradScalerState) -> Result<()> {
        *self = Self::new(self.scale.device(), state)?;
        Ok(())
    }
}
