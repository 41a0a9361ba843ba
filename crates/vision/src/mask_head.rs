//! The head that draws a mask within a box: He et al., "Mask R-CNN" (2017).

use anyhow::Result;
use tch::Tensor;

use super::conv_block::ConvBlock;
use super::options::MaskOptions;
use crate::nn::init::Fan;
use crate::nn::{Conv2d, Conv2dOptions, ConvTranspose2d, Scope, init};

/// Convolutions on the pooled features: `MaskRCNNHeads`.
#[derive(Debug)]
pub struct MaskHead {
    convs: Vec<ConvBlock>,
    outputs: i64,
}

impl MaskHead {
    /// For features of `inputs` channels.
    ///
    /// # Errors
    /// A size is not positive, or the names are taken.
    pub fn new(scope: &Scope, inputs: i64, options: &MaskOptions) -> Result<Self> {
        let mut convs = Vec::new();
        let mut channels = inputs;
        for (index, next) in options.layers.iter().enumerate() {
            let kernel = (3, options.dilation);
            convs.push(ConvBlock::new(&scope.sub(index), (channels, *next), kernel, options.norm, true)?);
            channels = *next;
        }
        convs.iter().try_for_each(ConvBlock::init_head)?;
        Ok(Self { convs, outputs: channels })
    }

    /// Channels of the output.
    pub fn outputs(&self) -> i64 {
        self.outputs
    }

    /// `[K, C, S, S]` → `[K, outputs, S, S]`.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, features: &Tensor, train: bool) -> Result<Tensor> {
        self.convs.iter().try_fold(features.shallow_clone(), |out, conv| conv.forward(&out, train))
    }
}

/// Doubles the size and gives a mask for each class: `MaskRCNNPredictor`.
#[derive(Debug)]
pub struct MaskPredictor {
    conv5_mask: ConvTranspose2d,
    mask_fcn_logits: Conv2d,
}

impl MaskPredictor {
    /// For `num_classes` classes, background included; `hidden` channels in between.
    ///
    /// # Errors
    /// A size is not positive, or the names are taken.
    pub fn new(scope: &Scope, inputs: i64, hidden: i64, num_classes: i64) -> Result<Self> {
        let conv5_mask = ConvTranspose2d::new(&scope.sub("conv5_mask"), inputs, hidden, 2)?;
        let logits = Conv2d::new(&scope.sub("mask_fcn_logits"), hidden, num_classes, Conv2dOptions::default())?;
        init::kaiming_normal(&conv5_mask.weight, Fan::Out)?;
        init::kaiming_normal(&logits.weight, Fan::Out)?;
        Ok(Self { conv5_mask, mask_fcn_logits: logits })
    }

    /// `[K, C, S, S]` → logits `[K, classes, 2 S, 2 S]`.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        self.mask_fcn_logits.forward(&self.conv5_mask.forward(features)?.f_relu_()?)
    }
}
