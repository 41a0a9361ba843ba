//! The fully connected layer.

use anyhow::{Context, Result};
use tch::{Device, Tensor};

use super::functional::rounds_freely;
use super::init;
use super::store::Scope;

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

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

    /// As [`Self::forward`], of many rows `[K, in]`: on a CPU with AVX-512 by way of a 1×1 convolution of an image of K pixels. oneDNN
    /// computes it with all that the processor has; MKL, which multiplies matrices, keeps the widest vectors to processors of its maker.
    /// Where there are none, MKL is as quick forward and twice as quick backward.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_rows(&self, rows: &Tensor) -> Result<Tensor> {
        let (count, inputs) = rows.size2()?;
        if count == 0 || rows.device() != Device::Cpu || !has_avx512() || !rounds_freely(Device::Cpu, false) {
            return self.forward(rows);
        }
        let pixels = rows.f_reshape([1, count, 1, inputs])?.f_permute([0, 3, 1, 2])?;
        let made = pixels
            .f_conv2d(&self.weight.f_unsqueeze(2)?.f_unsqueeze(3)?, Some(&self.bias), [1, 1], [0, 0], [1, 1], 1)
            .with_context(|| format!("multiplying {:?} with a weight {:?}", rows.size(), self.weight.size()))?;
        Ok(made.f_permute([0, 2, 3, 1])?.f_flatten(0, 2)?)
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
