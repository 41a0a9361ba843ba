//! The head that finds keypoints within a box: He et al., "Mask R-CNN" (2017), section 5.

use anyhow::Result;
use tch::Tensor;

use super::options::KeypointOptions;
use crate::nn::functional::{channels_last, resize_bilinear};
use crate::nn::init::Fan;
use crate::nn::{Conv2d, Conv2dOptions, ConvTranspose2d, Scope, init};

/// Convolutions on the pooled features: `KeypointRCNNHeads`.
#[derive(Debug)]
pub struct KeypointHead {
    convs: Vec<Conv2d>,
    outputs: i64,
}

impl KeypointHead {
    /// For features of `inputs` channels.
    ///
    /// # Errors
    /// A size is not positive, or the names are taken.
    pub fn new(scope: &Scope, inputs: i64, options: &KeypointOptions) -> Result<Self> {
        let mut convs = Vec::new();
        let mut channels = inputs;
        for (index, next) in options.layers.iter().enumerate() {
            let geometry = Conv2dOptions { kernel: 3, padding: 1, ..Conv2dOptions::default() };
            // A place between two convolutions is the ReLU's.
            convs.push(Conv2d::new(&scope.sub(2 * index), channels, *next, geometry)?);
            channels = *next;
        }
        for conv in &convs {
            init::kaiming_normal(&conv.weight, Fan::Out)?;
            conv.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))?;
        }
        Ok(Self { convs, outputs: channels })
    }

    /// Channels of the output.
    pub fn outputs(&self) -> i64 {
        self.outputs
    }

    /// `[B, C, S, S]` → `[B, outputs, S, S]`.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, features: &Tensor, train: bool) -> Result<Tensor> {
        let features = channels_last(features, train)?;
        self.convs.iter().try_fold(features, |out, conv| Ok(conv.forward(&out)?.f_relu_()?))
    }
}

/// A heatmap for each keypoint, four times the size: `KeypointRCNNPredictor`.
#[derive(Debug)]
pub struct KeypointPredictor {
    kps_score_lowres: ConvTranspose2d,
}

impl KeypointPredictor {
    /// For features of `inputs` channels and `count` keypoints.
    ///
    /// # Errors
    /// A size is not positive, or the names are taken.
    pub fn new(scope: &Scope, inputs: i64, count: i64) -> Result<Self> {
        let kps_score_lowres = ConvTranspose2d::new(&scope.sub("kps_score_lowres"), inputs, count, 4)?;
        init::kaiming_normal(&kps_score_lowres.weight, Fan::Out)?;
        init::constant(&kps_score_lowres.bias, 0.0)?;
        Ok(Self { kps_score_lowres })
    }

    /// `[B, C, S, S]` → logits `[B, K, 4 S, 4 S]`.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let low = self.kps_score_lowres.forward(features, 2, 1)?;
        let (_, _, height, width) = low.size4()?;
        resize_bilinear(&low, (2 * height, 2 * width))
    }
}
