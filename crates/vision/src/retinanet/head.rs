//! The two heads, each the same on all levels: four convolutions and an output.

use anyhow::Result;
use tch::Tensor;

use crate::conv_block::ConvBlock;
use crate::dense::rows;
use crate::nn::{Conv2d, Conv2dOptions, NormKind, Scope, init};

/// Convolutions before an output.
const DEPTH: usize = 4;
/// Probability of every class in the beginning: section 4.1.
const PRIOR: f64 = 0.01;

/// The geometry of an output.
const OUTPUT: Conv2dOptions = Conv2dOptions { kernel: 3, stride: 1, padding: 1, dilation: 1, groups: 1, bias: true };

fn tower(scope: &Scope, channels: i64, norm: Option<NormKind>) -> Result<Vec<ConvBlock>> {
    let conv = |index| ConvBlock::new(&scope.sub("conv").sub(index), (channels, channels), (3, 1), norm, true);
    (0..DEPTH).map(conv).collect()
}

fn through(tower: &[ConvBlock], map: &Tensor, train: bool) -> Result<Tensor> {
    tower.iter().try_fold(map.shallow_clone(), |out, conv| conv.forward(&out, train))
}

/// `RetinaNetClassificationHead`.
#[derive(Debug)]
pub struct ClassificationHead {
    tower: Vec<ConvBlock>,
    cls_logits: Conv2d,
    num_classes: i64,
}

impl ClassificationHead {
    pub fn new(scope: &Scope, channels: i64, anchors: i64, num_classes: i64, norm: Option<NormKind>) -> Result<Self> {
        let tower = tower(scope, channels, norm)?;
        tower.iter().try_for_each(ConvBlock::init_normal)?;
        let cls_logits = Conv2d::new(&scope.sub("cls_logits"), channels, anchors * num_classes, OUTPUT)?;
        init::normal(&cls_logits.weight, 0.01)?;
        let bias = -((1.0 - PRIOR) / PRIOR).ln();
        cls_logits.bias.iter().try_for_each(|all| init::constant(all, bias))?;
        Ok(Self { tower, cls_logits, num_classes })
    }

    /// Logits `[N, A, C]` for the anchors of all maps, and how many each level has.
    pub fn forward(&self, maps: &[Tensor], train: bool) -> Result<(Tensor, Vec<i64>)> {
        let of_map = |map| rows(&self.cls_logits.forward(&through(&self.tower, map, train)?)?, self.num_classes);
        let levels = maps.iter().map(of_map).collect::<Result<Vec<_>>>()?;
        let per_level = levels.iter().map(|level| level.size()[1]).collect();
        Ok((Tensor::f_cat(&levels, 1)?, per_level))
    }
}

/// `RetinaNetRegressionHead`.
#[derive(Debug)]
pub struct RegressionHead {
    tower: Vec<ConvBlock>,
    bbox_reg: Conv2d,
}

impl RegressionHead {
    pub fn new(scope: &Scope, channels: i64, anchors: i64, norm: Option<NormKind>) -> Result<Self> {
        let tower = tower(scope, channels, norm)?;
        let bbox_reg = Conv2d::new(&scope.sub("bbox_reg"), channels, anchors * 4, OUTPUT)?;
        init::normal(&bbox_reg.weight, 0.01)?;
        bbox_reg.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))?;
        tower.iter().try_for_each(ConvBlock::init_normal)?;
        Ok(Self { tower, bbox_reg })
    }

    /// Box offsets `[N, A, 4]` for the anchors of all maps.
    pub fn forward(&self, maps: &[Tensor], train: bool) -> Result<Tensor> {
        let of_map = |map| rows(&self.bbox_reg.forward(&through(&self.tower, map, train)?)?, 4);
        Ok(Tensor::f_cat(&maps.iter().map(of_map).collect::<Result<Vec<_>>>()?, 1)?)
    }
}
