//! The feature pyramid: Lin et al., "Feature Pyramid Networks for Object Detection" (2017).

use anyhow::{Result, ensure};
use tch::Tensor;

use super::conv_block::ConvBlock;
use crate::nn::functional::{max_pool2d, resize_nearest};
use crate::nn::{Conv2d, Conv2dOptions, NormKind, Scope, init};

/// The maps on top of a pyramid, each half as large as the one below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastLevels {
    /// A copy of the last map, halved: `LastLevelMaxPool`.
    MaxPool,
    /// Two more convolutions, on the pyramid's last map: `LastLevelP6P7`.
    P6P7,
    /// The same, on the network's last map.
    P6P7OfBody,
}

impl LastLevels {
    /// How many.
    pub fn count(self) -> usize {
        if self == Self::MaxPool { 1 } else { 2 }
    }
}

/// `LastLevelP6P7`: Lin et al., "Focal Loss" (2017), section 4.
#[derive(Debug)]
struct P6P7 {
    p6: Conv2d,
    p7: Conv2d,
    of_body: bool,
}

impl P6P7 {
    fn new(scope: &Scope, inputs: i64, outputs: i64, of_body: bool) -> Result<Self> {
        let options = Conv2dOptions { kernel: 3, stride: 2, padding: 1, ..Default::default() };
        let p6 = Conv2d::new(&scope.sub("p6"), inputs, outputs, options)?;
        let p7 = Conv2d::new(&scope.sub("p7"), outputs, outputs, options)?;
        for conv in [&p6, &p7] {
            init::kaiming_uniform(&conv.weight, 1.0)?;
            conv.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))?;
        }
        Ok(Self { p6, p7, of_body })
    }

    fn forward(&self, below: &Tensor) -> Result<[Tensor; 2]> {
        let p6 = self.p6.forward(below)?;
        let p7 = self.p7.forward(&p6.f_relu()?)?;
        Ok([p6, p7])
    }
}

/// Feature maps of one width from maps of several depths, the deep ones' meaning carried up to the shallow ones.
#[derive(Debug)]
pub struct FeaturePyramid {
    inner: Vec<ConvBlock>,
    layer: Vec<ConvBlock>,
    /// None where the last map is a copy.
    extra: Option<P6P7>,
}

impl FeaturePyramid {
    /// `inputs`: the channels of each map, shallow first; `outputs`: the channels of the pyramid.
    ///
    /// # Errors
    /// There are no inputs, or the names are taken.
    pub fn new(scope: &Scope, inputs: &[i64], outputs: i64, norm: Option<NormKind>, last: LastLevels) -> Result<Self> {
        ensure!(!inputs.is_empty(), "a feature pyramid needs at least one feature map");
        // torchvision makes these before the others, and lists them after.
        let extra = |inputs, of_body| P6P7::new(&scope.sub("extra_blocks"), inputs, outputs, of_body);
        let extra = match last {
            LastLevels::MaxPool => None,
            LastLevels::P6P7 => Some(extra(outputs, false)?),
            LastLevels::P6P7OfBody => {
                // torchvision goes by the widths: where they are equal it takes the pyramid's last map after all (`use_P5`).
                let deepest = inputs[inputs.len() - 1];
                Some(extra(deepest, deepest != outputs)?)
            }
        };
        let blocks = |name: &str, kernel: i64| {
            let block = |(index, channels): (usize, &i64)| {
                let from = if kernel == 1 { *channels } else { outputs };
                ConvBlock::new(&scope.sub(name).sub(index), (from, outputs), (kernel, 1), norm, false)
            };
            inputs.iter().enumerate().map(block).collect::<Result<Vec<_>>>()
        };
        let pyramid = Self { inner: blocks("inner_blocks", 1)?, layer: blocks("layer_blocks", 3)?, extra };
        pyramid.inner.iter().chain(&pyramid.layer).try_for_each(ConvBlock::init_uniform)?;
        Ok(pyramid)
    }

    /// One map `[N, out, H, W]` for each of `maps` (shallow first), and the last levels.
    ///
    /// # Errors
    /// The maps are others than the pyramid was made for.
    pub fn forward(&self, maps: &[Tensor], train: bool) -> Result<Vec<Tensor>> {
        ensure!(maps.len() == self.inner.len(), "{} feature maps for a pyramid of {}", maps.len(), self.inner.len());
        let mut results = Vec::with_capacity(maps.len() + 1);
        let mut above: Option<Tensor> = None;
        for ((map, inner), layer) in maps.iter().zip(&self.inner).zip(&self.layer).rev() {
            let mut merged = inner.forward(map, train)?;
            if let Some(above) = above {
                let (_, _, height, width) = merged.size4()?;
                merged = merged.f_add(&resize_nearest(&above, (height, width))?)?;
            }
            results.push(layer.forward(&merged, train)?);
            above = Some(merged);
        }
        results.reverse();
        let (top, deepest) = (&results[results.len() - 1], &maps[maps.len() - 1]);
        match &self.extra {
            None => results.push(max_pool2d(top, 1, 2, 0)?),
            Some(extra) => results.extend(extra.forward(if extra.of_body { deepest } else { top })?),
        }
        Ok(results)
    }
}

/// Today's name of a pyramid's tensor, from before torchvision 0.13.
pub(super) fn modern_name(name: &str) -> String {
    let pyramid = || {
        let (list, rest) = name.strip_prefix("backbone.fpn.")?.split_once('.')?;
        let (index, leaf) = rest.split_once('.').filter(|(_, leaf)| !leaf.contains('.'))?;
        matches!(list, "inner_blocks" | "layer_blocks").then(|| format!("backbone.fpn.{list}.{index}.0.{leaf}"))
    };
    pyramid().unwrap_or_else(|| name.to_owned())
}
