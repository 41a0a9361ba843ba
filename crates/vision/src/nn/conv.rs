//! Two-dimensional convolutions.

use anyhow::{Context, Result};
use tch::Tensor;

use super::init;
use super::store::Scope;

/// Geometry of a [`Conv2d`]; the default is a 1×1 convolution with bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Side of the square kernel, in pixels.
    pub kernel: i64,
    /// Step of the kernel, in pixels.
    pub stride: i64,
    /// Zeros added on every side, in pixels.
    pub padding: i64,
    /// Distance between the kernel's elements, in pixels.
    pub dilation: i64,
    /// Groups of channels convolved apart.
    pub groups: i64,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Default for Conv2dOptions {
    fn default() -> Self {
        Self { kernel: 1, stride: 1, padding: 0, dilation: 1, groups: 1, bias: true }
    }
}

/// `torch.nn.Conv2d` with a square kernel: `weight` `[out, in / groups, k, k]`, `bias` `[out]`.
#[derive(Debug)]
pub struct Conv2d {
    /// `[out, in / groups, k, k]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Option<Tensor>,
    options: Conv2dOptions,
}

impl Conv2d {
    /// Makes the layer's parameters under `scope`, with torch's default initial values.
    ///
    /// # Errors
    /// The names are taken, or the sizes are not positive.
    pub fn new(scope: &Scope, inputs: i64, outputs: i64, options: Conv2dOptions) -> Result<Self> {
        let Conv2dOptions { kernel, groups, .. } = options;
        let weight = scope.parameter("weight", &[outputs, inputs / groups.max(1), kernel, kernel])?;
        let bias = options.bias.then(|| scope.parameter("bias", &[outputs])).transpose()?;
        init::torch_default(&weight, bias.as_ref())?;
        Ok(Self { weight, bias, options })
    }

    /// `[N, in, H, W]` → `[N, out, H', W']`.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let o = &self.options;
        input
            .f_conv2d(
                &self.weight,
                self.bias.as_ref(),
                [o.stride, o.stride],
                [o.padding, o.padding],
                [o.dilation, o.dilation],
                o.groups,
            )
            .with_context(|| format!("convolving {:?} with a weight {:?}", input.size(), self.weight.size()))
    }
}

/// `torch.nn.ConvTranspose2d` without padding and with stride equal to the kernel's side: each pixel becomes a block.
#[derive(Debug)]
pub struct ConvTranspose2d {
    /// `[in, out, k, k]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
    stride: i64,
}

impl ConvTranspose2d {
    /// Makes the layer's parameters under `scope`, with torch's default initial values.
    ///
    /// # Errors
    /// The names are taken, or the sizes are not positive.
    pub fn new(scope: &Scope, inputs: i64, outputs: i64, kernel: i64) -> Result<Self> {
        let weight = scope.parameter("weight", &[inputs, outputs, kernel, kernel])?;
        let bias = scope.parameter("bias", &[outputs])?;
        init::torch_default(&weight, Some(&bias))?;
        Ok(Self { weight, bias, stride: kernel })
    }

    /// `[N, in, H, W]` → `[N, out, H·k, W·k]`.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let stride = [self.stride, self.stride];
        input
            .f_conv_transpose2d(&self.weight, Some(&self.bias), stride, [0, 0], [0, 0], 1, [1, 1])
            .with_context(|| format!("unfolding {:?} with a weight {:?}", input.size(), self.weight.size()))
    }
}
