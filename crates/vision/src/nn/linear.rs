//! The fully connected layer.

use anyhow::{Context, Result};
use tch::Tensor;

use super::init;
use super::store::Scope;

/// `torch.nn.Linear`: `weight` `[out, in]`, `bias` `[out]`.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
}

impl Linear {
    /// Makes the layer's parameters under `scope`, with torch's default initial values.
    ///
    /// # Errors
    /// The names are taken, or the sizes are not positive.
    pub fn new(scope: &Scope, inputs: i64, outputs: i64) -> Result<Self> {
        let weight = scope.parameter("weight", &[outputs, inputs])?;
        let bias = scope.parameter("bias", &[outputs])?;
        init::torch_default(&weight, Some(&bias))?;
        Ok(Self { weight, bias })
    }

    /// `[…, in]` → `[…, out]`.
    ///
    /// # Errors
    /// The input's last dimension is another, or memory is short.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        input
            .f_linear(&self.weight, Some(&self.bias))
            .with_context(|| format!("multiplying {:?} with a weight {:?}", input.size(), self.weight.size()))
    }
}
