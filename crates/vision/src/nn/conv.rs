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
        self.with(input, &self.weight, self.bias.as_ref())
    }

    /// As [`Self::forward`], with each channel of the output multiplied by `scale` and moved by `shift`, both `[out]`: done to the weight
    /// and the bias, which are far smaller than the output.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_affine(&self, input: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
        let weight = self.weight.f_mul(&scale.f_view([-1, 1, 1, 1])?)?;
        let bias = match &self.bias {
            Some(bias) => bias.f_mul(scale)?.f_add(shift)?,
            None => shift.shallow_clone(),
        };
        self.with(input, &weight, Some(&bias))
    }

    fn with(&self, input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let Conv2dOptions { stride, padding, dilation, groups, .. } = self.options;
        input
            .f_conv2d(weight, bias, [stride, stride], [padding, padding], [dilation, dilation], groups)
            .with_context(|| format!("convolving {:?} with a weight {:?}", input.size(), weight.size()))
    }
}

/// `torch.nn.ConvTranspose2d`: each pixel becomes a block, and where blocks overlap they add up.
#[derive(Debug)]
pub struct ConvTranspose2d {
    /// `[in, out, k, k]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
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
        Ok(Self { weight, bias })
    }

    /// `[N, in, H, W]` → `[N, out, H', W']`, with `H' = (H - 1) · stride - 2 · padding + k`.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, input: &Tensor, stride: i64, padding: i64) -> Result<Tensor> {
        let (stride, padding) = ([stride, stride], [padding, padding]);
        input
            .f_conv_transpose2d(&self.weight, Some(&self.bias), stride, padding, [0, 0], 1, [1, 1])
            .with_context(|| format!("unfolding {:?} with a weight {:?}", input.size(), self.weight.size()))
    }

    /// With a stride of the kernel's side and no padding, `[N, in, H, W]` → `[N, H, W, k, k, out]`: the block that each pixel becomes.
    /// Blocks do not overlap, so this is a 1×1 convolution to as many channels as a block has numbers.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn blocks(&self, input: &Tensor) -> Result<Tensor> {
        let (count, _, height, width) = input.size4()?;
        let (inputs, outputs, kernel, _) = self.weight.size4()?;
        let weight = self.weight.f_permute([2, 3, 1, 0])?.f_reshape([kernel * kernel * outputs, inputs, 1, 1])?;
        let bias = self.bias.f_repeat([kernel * kernel])?;
        let blocks = input
            .f_conv2d(&weight, Some(&bias), [1, 1], [0, 0], [1, 1], 1)
            .with_context(|| format!("unfolding {:?} with a weight {:?}", input.size(), self.weight.size()))?;
        Ok(blocks.f_permute([0, 2, 3, 1])?.f_reshape([count, height, width, kernel, kernel, outputs])?)
    }
}
