//! A convolution with its normalisation and activation: `torchvision.ops.Conv2dNormActivation`.

use anyhow::Result;
use tch::Tensor;

use crate::nn::init::Fan;
use crate::nn::{Conv2d, Conv2dOptions, Norm, NormKind, Scope, init};

/// Convolution (`0`), optional normalisation (`1`), optional ReLU. The convolution has a bias where there is no norm.
#[derive(Debug)]
pub struct ConvBlock {
    conv: Conv2d,
    norm: Option<Norm>,
    relu: bool,
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
        let padding = (kernel - 1) / 2 * dilation;
        let options = Conv2dOptions { kernel, padding, dilation, bias: norm.is_none(), ..Default::default() };
        let conv = Conv2d::new(&scope.sub(0), inputs, outputs, options)?;
        let norm = norm.map(|kind| Norm::new(&scope.sub(1), kind, outputs)).transpose()?;
        Ok(Self { conv, norm, relu })
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
        Ok(if self.relu { out.f_relu_()? } else { out })
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

    /// Draws the weight as RPN heads do: normal with deviation 0.01, the bias 0.
    pub(super) fn init_rpn(&self) -> Result<()> {
        init::normal(&self.conv.weight, 0.01)?;
        self.zero_bias()
    }

    fn zero_bias(&self) -> Result<()> {
        self.conv.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))
    }
}
