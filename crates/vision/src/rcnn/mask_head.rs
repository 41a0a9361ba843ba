//! The head that draws a mask within a box: He et al., "Mask R-CNN" (2017).

use anyhow::{Result, bail};
use tch::Tensor;

use super::options::MaskOptions;
use crate::conv_block::ConvBlock;
use crate::nn::functional::channels_last;
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
        let features = channels_last(features, train)?;
        self.convs.iter().try_fold(features, |out, conv| conv.forward(&out, train))
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

    /// `[K, C, S, S]` → of each the logits of its class, `[K, 1, 2 S, 2 S]`; `labels`: i64 `[K]`. Those of other classes, which nobody
    /// looks at, are not computed.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, features: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let blocks = self.conv5_mask.blocks(features)?.f_relu_()?;
        let [count, height, width, rows, columns, hidden] = blocks.size()[..] else { bail!("no blocks: {blocks:?}") };
        let of_class = |tensor: &Tensor| tensor.f_flatten(1, -1)?.f_index_select(0, labels);
        let weight = of_class(&self.mask_fcn_logits.weight)?.f_unsqueeze(2)?;
        let logits = blocks.f_reshape([count, height * width * rows * columns, hidden])?.f_bmm(&weight)?;
        let logits = match &self.mask_fcn_logits.bias {
            Some(bias) => logits.f_add(&of_class(&bias.f_unsqueeze(1)?)?.f_unsqueeze(2)?)?,
            None => logits,
        };
        let logits = logits.f_view([count, height, width, rows, columns])?.f_permute([0, 1, 3, 2, 4])?;
        Ok(logits.f_reshape([count, 1, height * rows, width * columns])?)
    }
}
