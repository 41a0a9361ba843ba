//! Further blocks on top of a network, each a 1×1 and a larger convolution: figure 2 of the paper.

use anyhow::Result;
use tch::Tensor;

use crate::nn::{Conv2d, Conv2dOptions, Scope, init};

/// What the second convolution of a block does to the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Halves it.
    Halve,
    /// Cuts off the border.
    Crop,
    /// From 2 by 2 to 1 by 1, in SSD512.
    Last,
}

impl Step {
    fn options(self) -> Conv2dOptions {
        let (kernel, stride, padding) = match self {
            Step::Halve => (3, 2, 1),
            Step::Crop => (3, 1, 0),
            Step::Last => (4, 1, 1),
        };
        Conv2dOptions { kernel, stride, padding, ..Default::default() }
    }
}

/// The blocks, without norms.
#[derive(Debug)]
pub(super) struct Further(Vec<[Conv2d; 2]>);

impl Further {
    /// On maps of `inputs` channels; the blocks are counted from `first`.
    pub(super) fn new(scope: &Scope, first: usize, mut inputs: i64, steps: &[Step]) -> Result<Self> {
        let mut blocks = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let (middle, outputs) = if index == 0 { (256, 512) } else { (128, 256) };
            let scope = scope.sub(first + index);
            let narrow = Conv2d::new(&scope.sub(0), inputs, middle, Conv2dOptions::default())?;
            blocks.push([narrow, Conv2d::new(&scope.sub(2), middle, outputs, step.options())?]);
            inputs = outputs;
        }
        draw(blocks.iter().flatten())?;
        Ok(Self(blocks))
    }

    /// How many blocks.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Channels of the blocks' maps.
    pub(super) fn channels(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|[_, last]| last.weight.size()[0])
    }

    /// Adds the blocks' maps to those of the network, beginning with the last of these.
    pub(super) fn extend(&self, mut maps: Vec<Tensor>) -> Result<Vec<Tensor>> {
        for block in &self.0 {
            maps.push(through(block, &maps[maps.len() - 1])?);
        }
        Ok(maps)
    }
}

/// Draws weights as torchvision does.
pub(super) fn draw<'a>(mut convs: impl Iterator<Item = &'a Conv2d>) -> Result<()> {
    convs.try_for_each(|conv| {
        init::xavier_uniform(&conv.weight)?;
        conv.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))
    })
}

/// Two convolutions, each with a ReLU.
pub(super) fn through(convs: &[Conv2d; 2], map: &Tensor) -> Result<Tensor> {
    convs.iter().try_fold(map.shallow_clone(), |map, conv| Ok(conv.forward(&map)?.f_relu_()?))
}
