//! The head that classifies a box and corrects its corners.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::options::BoxHeadOptions;
use crate::conv_block::ConvBlock;
use crate::nn::functional::channels_last;
use crate::nn::{Linear, Scope};

/// Pooled features → one vector a box: torchvision's `TwoMLPHead` or `FastRCNNConvFCHead`.
#[derive(Debug)]
pub struct BoxHead {
    convs: Vec<ConvBlock>,
    linears: Vec<Linear>,
    outputs: i64,
}

impl BoxHead {
    /// For features of `inputs` channels and `side`×`side` bins.
    ///
    /// # Errors
    /// A list of layers that must not be empty is, or the names are taken.
    pub fn new(scope: &Scope, inputs: i64, side: i64, options: &BoxHeadOptions) -> Result<Self> {
        match options {
            BoxHeadOptions::TwoMlp { representation_size: width } => {
                let fc6 = Linear::new(&scope.sub("fc6"), inputs * side * side, *width)?;
                let fc7 = Linear::new(&scope.sub("fc7"), *width, *width)?;
                Ok(Self { convs: Vec::new(), linears: vec![fc6, fc7], outputs: *width })
            }
            BoxHeadOptions::ConvFc { conv_layers, fc_layers, norm } => {
                ensure!(!fc_layers.is_empty(), "the box head needs at least one fully connected layer");
                let (mut convs, mut linears) = (Vec::new(), Vec::new());
                let mut channels = inputs;
                for (index, next) in conv_layers.iter().enumerate() {
                    convs.push(ConvBlock::new(&scope.sub(index), (channels, *next), (3, 1), *norm, true)?);
                    channels = *next;
                }
                let mut width = channels * side * side;
                for (index, next) in fc_layers.iter().enumerate() {
                    // torchvision counts the flattening and each ReLU as places of their own.
                    let place = conv_layers.len() + 1 + 2 * index;
                    linears.push(Linear::new(&scope.sub(place), width, *next)?);
                    width = *next;
                }
                convs.iter().try_for_each(ConvBlock::init_head)?;
                Ok(Self { convs, linears, outputs: width })
            }
        }
    }

    /// Numbers in the vector.
    pub fn outputs(&self) -> i64 {
        self.outputs
    }

    /// `[K, C, S, S]` → `[K, outputs]`.
    ///
    /// # Errors
    /// The input has another shape, or memory is short.
    pub fn forward(&self, features: &Tensor, train: bool) -> Result<Tensor> {
        let mut out = match self.convs.is_empty() {
            true => features.shallow_clone(),
            false => channels_last(features, train)?,
        };
        for conv in &self.convs {
            out = conv.forward(&out, train)?;
        }
        out = out.f_flatten(1, -1)?;
        for linear in &self.linears {
            out = linear.forward_rows(&out)?.f_relu_()?;
        }
        Ok(out)
    }
}

/// Classes and box offsets from a box's vector: `FastRCNNPredictor`.
#[derive(Debug)]
pub struct BoxPredictor {
    cls_score: Linear,
    bbox_pred: Linear,
}

impl BoxPredictor {
    /// For `num_classes` classes, background included.
    ///
    /// # Errors
    /// `num_classes` is not positive, or the names are taken.
    pub fn new(scope: &Scope, inputs: i64, num_classes: i64) -> Result<Self> {
        let cls_score = Linear::new(&scope.sub("cls_score"), inputs, num_classes)?;
        let bbox_pred = Linear::new(&scope.sub("bbox_pred"), inputs, num_classes * 4)?;
        Ok(Self { cls_score, bbox_pred })
    }

    /// `[K, inputs]` → logits `[K, classes]` and offsets `[K, classes · 4]`.
    ///
    /// # Errors
    /// The input has another width, or memory is short.
    pub fn forward(&self, features: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.cls_score.forward(features)?, self.bbox_pred.forward(features)?))
    }
}
