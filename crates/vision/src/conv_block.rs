//! A convolution with its normalisation and activation: `torchvision.ops.Conv2dNormActivation`.

use anyhow::Result;
use tch::Tensor;

use crate::nn::init::Fan;
use crate::nn::{Conv2d, Conv2dOptions, Norm, NormKind, Scope, init};

/// What comes after a convolution and its norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // PyTorch's names.
pub enum Activation {
    None,
    Relu,
    Relu6,
    Hardswish,
}

/// Convolution (`0`), optional normalisation (`1`), optional activation. The convolution has a bias where there is no norm.
#[derive(Debug)]
pub struct ConvBlock {
    pub(crate) conv: Conv2d,
    norm: Option<Norm>,
    activation: Activation,
}

impl ConvBlock {
    /// A block with a `kernel`×`kernel` convolution that keeps the size.
    ///
    /// # Errors
    /// The names are taken, or the sizes are not positive.
    pub fn new(
        scope: &Scope,
        (inputs, outputs): (i64, i64),
        (kernel, dilation): (i64, i64),
        norm: Option<NormKind>,
        relu: bool,
    ) -> Result<Self> {
        let activation = if relu { Activation::Relu } else { Activation::None };
        let options = Conv2dOptions { kernel, dilation, ..Default::default() };
        Self::with(scope, (inputs, outputs), options, norm, activation)
    }

    /// A block of any geometry, padded so that only a stride changes the size.
    ///
    /// # Errors
    /// The names are taken, or the sizes are not positive.
    pub fn with(
        scope: &Scope,
        (inputs, outputs): (i64, i64),
        options: Conv2dOptions,
        norm: Option<NormKind>,
        activation: Activation,
    ) -> Result<Self> {
        let padding = (options.kernel - 1) / 2 * options.dilation;
        let options = Conv2dOptions { padding, bias: norm.is_none(), ..options };
        let conv = Conv2d::new(&scope.sub(0), inputs, outputs, options)?;
        let norm = norm.map(|kind| Norm::new(&scope.sub(1), kind, outputs)).transpose()?;
        Ok(Self { conv, norm, activation })
    }

    /// `[N, in, H, W]` → `[N, out, H, W]`.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor> {
        let mut out = match &self.norm {
            Some(norm) => norm.after(&self.conv, input, train)?,
            None => self.conv.forward(input)?,
        };
        Ok(match self.activation {
            Activation::None => out,
            Activation::Relu => out.f_relu_()?,
            Activation::Relu6 => out.f_relu6()?,
            Activation::Hardswish => out.f_hardswish()?,
        })
    }

    /// Draws the weight as FPN blocks do: Kaiming uniform of slope 1, the bias 0.
    pub(super) fn init_uniform(&self) -> Result<()> {
        init::kaiming_uniform(&self.conv.weight, 1.0)?;
        self.zero_bias()
    }

    /// Draws the weight as heads do: Kaiming normal over the outgoing fan, the bias 0.
    pub(super) fn init_head(&self) -> Result<()> {
        init::kaiming_normal(&self.conv.weight, Fan::Out)?;
        self.zero_bias()
    }

    /// Draws the weight as heads on a pyramid do: normal with deviation 0.01, the bias 0.
    pub(super) fn init_normal(&self) -> Result<()> {
        self.init_deviation(0.01)
    }

    /// Draws the weight normal with that deviation, the bias 0.
    pub(super) fn init_deviation(&self, deviation: f64) -> Result<()> {
        init::normal(&self.conv.weight, deviation)?;
        self.zero_bias()
    }

    fn zero_bias(&self) -> Result<()> {
        self.conv.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))
    }
}
