//! The feature pyramid: Lin et al., "Feature Pyramid Networks for Object Detection" (2017).

use anyhow::{Result, ensure};
use tch::Tensor;

use super::conv_block::ConvBlock;
use crate::nn::functional::{max_pool2d, resize_nearest};
use crate::nn::{NormKind, Scope};

/// Feature maps of one width from maps of several depths, the deep ones' meaning carried up to the shallow ones; last
/// comes a copy of the deepest, halved (torchvision's `LastLevelMaxPool`).
#[derive(Debug)]
pub struct FeaturePyramid {
    inner: Vec<ConvBlock>,
    layer: Vec<ConvBlock>,
}

impl FeaturePyramid {
    /// `inputs`: the channels of each map, shallow first; `outputs`: the channels of the pyramid.
    ///
    /// # Errors
    /// There are no inputs, or the names are taken.
    pub fn new(scope: &Scope, inputs: &[i64], outputs: i64, norm: Option<NormKind>) -> Result<Self> {
        ensure!(!inputs.is_empty(), "a feature pyramid needs at least one feature map");
        let blocks = |name: &str, kernel: i64| {
            let block = |(index, channels): (usize, &i64)| {
                let from = if kernel == 1 { *channels } else { outputs };
                ConvBlock::new(&scope.sub(name).sub(index), (from, outputs), (kernel, 1), norm, false)
            };
            inputs.iter().enumerate().map(block).collect::<Result<Vec<_>>>()
        };
        let pyramid = Self { inner: blocks("inner_blocks", 1)?, layer: blocks("layer_blocks", 3)? };
        pyramid.inner.iter().chain(&pyramid.layer).try_for_each(ConvBlock::init_uniform)?;
        Ok(pyramid)
    }

    /// One map `[N, out, H, W]` for each of `maps` (shallow first), and the halved last.
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
        let last = max_pool2d(&results[results.len() - 1], 1, 2, 0)?;
        results.push(last);
        Ok(results)
    }
}
