//! The two heads, each the same on all levels: four convolutions with group norms, and outputs.

use anyhow::Result;
use tch::Tensor;

use crate::dense::rows;
use crate::nn::{Conv2d, Conv2dOptions, GroupNorm, Scope, init};

/// Convolutions before the outputs.
const DEPTH: usize = 4;
/// Groups of channels that are normalized together.
const GROUPS: i64 = 32;
/// Probability of every class in the beginning.
const PRIOR: f64 = 0.01;

const CONV: Conv2dOptions = Conv2dOptions { kernel: 3, stride: 1, padding: 1, dilation: 1, groups: 1, bias: true };

fn draw(conv: &Conv2d) -> Result<()> {
    init::normal(&conv.weight, 0.01)?;
    conv.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))
}

#[derive(Debug)]
struct Tower(Vec<(Conv2d, GroupNorm)>);

impl Tower {
    fn new(scope: &Scope, channels: i64) -> Result<Self> {
        let scope = scope.sub("conv");
        // torchvision counts each norm and ReLU as a place of its own.
        let layer = |index: usize| {
            let conv = Conv2d::new(&scope.sub(3 * index), channels, channels, CONV)?;
            Ok((conv, GroupNorm::new(&scope.sub(3 * index + 1), GROUPS, channels)?))
        };
        Ok(Self((0..DEPTH).map(layer).collect::<Result<_>>()?))
    }

    fn init(&self) -> Result<()> {
        self.0.iter().try_for_each(|(conv, _)| draw(conv))
    }

    fn forward(&self, map: &Tensor) -> Result<Tensor> {
        let layer =
            |map: Tensor, (conv, norm): &(Conv2d, GroupNorm)| Ok(norm.forward(&conv.forward(&map)?)?.f_relu_()?);
        self.0.iter().try_fold(map.shallow_clone(), layer)
    }
}

/// `FCOSClassificationHead`.
#[derive(Debug)]
pub struct ClassificationHead {
    tower: Tower,
    cls_logits: Conv2d,
    num_classes: i64,
}

impl ClassificationHead {
    pub fn new(scope: &Scope, channels: i64, num_classes: i64) -> Result<Self> {
        let tower = Tower::new(scope, channels)?;
        tower.init()?;
        let cls_logits = Conv2d::new(&scope.sub("cls_logits"), channels, num_classes, CONV)?;
        draw(&cls_logits)?;
        let bias = -((1.0 - PRIOR) / PRIOR).ln();
        cls_logits.bias.iter().try_for_each(|all| init::constant(all, bias))?;
        Ok(Self { tower, cls_logits, num_classes })
    }

    /// Logits `[N, A, C]` for the places of all maps, and how many each level has.
    pub fn forward(&self, maps: &[Tensor]) -> Result<(Tensor, Vec<i64>)> {
        let of_map = |map| rows(&self.cls_logits.forward(&self.tower.forward(map)?)?, self.num_classes);
        let levels = maps.iter().map(of_map).collect::<Result<Vec<_>>>()?;
        let per_level = levels.iter().map(|level| level.size()[1]).collect();
        Ok((Tensor::f_cat(&levels, 1)?, per_level))
    }
}

/// `FCOSRegressionHead`: boxes and centerness.
#[derive(Debug)]
pub struct RegressionHead {
    tower: Tower,
    bbox_reg: Conv2d,
    bbox_ctrness: Conv2d,
}

impl RegressionHead {
    pub fn new(scope: &Scope, channels: i64) -> Result<Self> {
        let tower = Tower::new(scope, channels)?;
        let bbox_reg = Conv2d::new(&scope.sub("bbox_reg"), channels, 4, CONV)?;
        let bbox_ctrness = Conv2d::new(&scope.sub("bbox_ctrness"), channels, 1, CONV)?;
        [&bbox_reg, &bbox_ctrness].into_iter().try_for_each(draw)?;
        tower.init()?;
        Ok(Self { tower, bbox_reg, bbox_ctrness })
    }

    /// Distances `[N, A, 4]` and logits of centerness `[N, A]` for the places of all maps.
    pub fn forward(&self, maps: &[Tensor]) -> Result<(Tensor, Tensor)> {
        let (mut distances, mut centerness) = (Vec::new(), Vec::new());
        for map in maps {
            let hidden = self.tower.forward(map)?;
            distances.push(rows(&self.bbox_reg.forward(&hidden)?.f_relu()?, 4)?);
            centerness.push(rows(&self.bbox_ctrness.forward(&hidden)?, 1)?.f_squeeze_dim(2)?);
        }
        Ok((Tensor::f_cat(&distances, 1)?, Tensor::f_cat(&centerness, 1)?))
    }
}
