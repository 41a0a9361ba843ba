//! The two heads: for each feature map a layer of its own.

use anyhow::Result;
use tch::Tensor;

use super::lite;
use crate::conv_block::ConvBlock;
use crate::dense::rows;
use crate::nn::{Conv2d, Conv2dOptions, Scope, init};

/// The layer on one map.
#[derive(Debug)]
enum Predictor {
    Conv(Conv2d),
    /// Each channel by itself, then all together.
    Lite(ConvBlock, Conv2d),
}

/// `SSDScoringHead`: a row of numbers for each default box.
#[derive(Debug)]
pub struct ScoringHead {
    predictors: Vec<Predictor>,
    columns: i64,
}

impl ScoringHead {
    /// For maps of these channels with that many boxes a place; `lite`: as SSDlite's.
    pub fn new(scope: &Scope, channels: &[i64], boxes: &[i64], columns: i64, lite: bool) -> Result<Self> {
        let scope = scope.sub("module_list");
        let mut predictors = Vec::new();
        for (index, (inputs, boxes)) in channels.iter().zip(boxes).enumerate() {
            let (scope, outputs) = (scope.sub(index), boxes * columns);
            predictors.push(if lite {
                let depthwise = lite::depthwise(&scope.sub(0), *inputs, 1)?;
                Predictor::Lite(depthwise, Conv2d::new(&scope.sub(1), *inputs, outputs, Conv2dOptions::default())?)
            } else {
                let options = Conv2dOptions { kernel: 3, padding: 1, ..Default::default() };
                Predictor::Conv(Conv2d::new(&scope, *inputs, outputs, options)?)
            });
        }
        for predictor in &predictors {
            let conv = match predictor {
                Predictor::Conv(conv) => {
                    init::xavier_uniform(&conv.weight)?;
                    conv
                }
                Predictor::Lite(depthwise, conv) => {
                    depthwise.init_deviation(lite::DEVIATION)?;
                    init::normal(&conv.weight, lite::DEVIATION)?;
                    conv
                }
            };
            conv.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))?;
        }
        Ok(Self { predictors, columns })
    }

    /// `[N, A, columns]` for the boxes of all maps, and how many each map has.
    pub fn forward(&self, maps: &[Tensor], train: bool) -> Result<(Tensor, Vec<i64>)> {
        let of_map = |(map, predictor): (&Tensor, &Predictor)| {
            let out = match predictor {
                Predictor::Conv(conv) => conv.forward(map)?,
                Predictor::Lite(depthwise, conv) => conv.forward(&depthwise.forward(map, train)?)?,
            };
            rows(&out, self.columns)
        };
        let levels = maps.iter().zip(&self.predictors).map(of_map).collect::<Result<Vec<_>>>()?;
        let per_level = levels.iter().map(|level| level.size()[1]).collect();
        Ok((Tensor::f_cat(&levels, 1)?, per_level))
    }
}
