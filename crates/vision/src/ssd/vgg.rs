//! VGG-16 as an SSD takes it: figure 2 of the paper. torchvision's `SSDFeatureExtractorVGG`.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::extractor::Extractor;
use super::further::{Further, Step, draw, through};
use crate::nn::functional::{channels_last, max_pool2d, max_pool2d_ceil};
use crate::nn::{Conv2d, Conv2dOptions, LoadOptions, LoadReport, ParameterStore, Scope, StateDict, init};
use crate::vgg::{self, Stage, VggKind};

/// Where torchvision's list of VGG-16's layers is cut: at the fourth pooling.
const CUT: usize = 23;
/// The number of the last stage's layers, from the cut.
const LAST: usize = 7;
/// What the norm of the first map's features becomes in the beginning.
const SCALE: f64 = 20.0;

/// `conv4_3`, `fc7` and the maps of further convolutions.
#[derive(Debug)]
pub struct VggExtractor {
    stages: Vec<Stage>,
    scale: Tensor,
    fc: [Conv2d; 2],
    further: Further,
}

impl VggExtractor {
    /// For images of side 300 or 512.
    pub fn new(scope: &Scope, size: i64, trainable: usize) -> Result<Self> {
        let steps: &[Step] = match size {
            300 => &[Step::Halve, Step::Halve, Step::Crop, Step::Crop],
            512 => &[Step::Halve, Step::Halve, Step::Halve, Step::Halve, Step::Last],
            _ => anyhow::bail!("with vgg16 the size must be 300 or 512, not {size}"),
        };
        ensure!(trainable <= 5, "trainable_layers must lie between 0 and 5, not {trainable}");
        let (features, extra_scope) = (scope.sub("features"), scope.sub("extra"));
        let last = extra_scope.sub(0);
        let place = |position| if position < CUT { features.sub(position) } else { last.sub(position - CUT) };
        let stages = vgg::backbone(VggKind::VGG16, place)?;
        freeze(scope, trainable);
        let scale = scope.parameter("scale_weight", &[512])?;
        init::constant(&scale, SCALE)?;
        let further = Further::new(&extra_scope, 1, 1024, steps)?;
        let atrous = Conv2dOptions { kernel: 3, padding: 6, dilation: 6, ..Default::default() };
        let fc = last.sub(LAST);
        let fc6 = Conv2d::new(&fc.sub(1), 512, 1024, atrous)?;
        let fc = [fc6, Conv2d::new(&fc.sub(3), 1024, 1024, Conv2dOptions::default())?];
        draw(fc.iter())?;
        Ok(Self { stages, scale, fc, further })
    }
}

/// Freezes all stages but the last `trainable` of five; a stage begins with the pooling.
fn freeze(scope: &Scope, trainable: usize) {
    const BEGINS: [usize; 5] = [0, 4, 9, 16, CUT];
    let first = if trainable == 0 { usize::MAX } else { BEGINS[5 - trainable] };
    let (features, last) = (format!("{}.features.", scope.name()), format!("{}.extra.0.", scope.name()));
    scope.store().set_trainable(|name| {
        let position = |rest: &str| rest.split('.').next()?.parse::<usize>().ok();
        let position = match name.strip_prefix(&features) {
            Some(rest) => position(rest)?,
            None => position(name.strip_prefix(&last)?)? + CUT,
        };
        Some(position >= first)
    });
}

impl Extractor for VggExtractor {
    fn channels(&self) -> Vec<i64> {
        [512, 1024].into_iter().chain(self.further.channels()).collect()
    }

    fn forward(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        let mut map = channels_last(images, train)?;
        for (index, stage) in self.stages[..4].iter().enumerate() {
            map = match index {
                0 => map,
                // The paper's sizes.
                3 => max_pool2d_ceil(&map)?,
                _ => max_pool2d(&map, 2, 2, 0)?,
            };
            map = stage.forward(&map, train)?;
        }
        let norm = map.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?.f_clamp_min(1e-12)?;
        let mut maps = vec![map.f_div(&norm)?.f_mul(&self.scale.f_view([1, -1, 1, 1])?)?];
        map = self.stages[4].forward(&max_pool2d(&map, 2, 2, 0)?, train)?;
        map = through(&self.fc, &max_pool2d(&map, 3, 1, 1)?)?;
        maps.push(map);
        self.further.extend(maps)
    }

    /// VGG's classifier has no place here.
    fn load(&self, store: &ParameterStore, state: &StateDict) -> Result<LoadReport> {
        let renamed = |name: &str| {
            let (position, leaf) = name.strip_prefix("features.")?.split_once('.')?;
            let position: usize = position.parse().ok()?;
            Some(match position < CUT {
                true => format!("features.{position}.{leaf}"),
                false => format!("extra.0.{}.{leaf}", position - CUT),
            })
        };
        let used = state.iter().filter(|(name, _)| !name.starts_with("classifier."));
        let used = used.map(|(name, tensor)| (renamed(name).unwrap_or_else(|| name.clone()), tensor.shallow_clone()));
        let own = format!("backbone.extra.0.{LAST}.");
        let blocks = (1..=self.further.count()).map(|index| format!("backbone.extra.{index}."));
        let additional = blocks.chain([own, "backbone.scale_weight".to_owned()]).collect();
        let into = LoadOptions { into_prefix: "backbone.".to_owned(), additional, ..LoadOptions::default() };
        store.load_state_dict(&used.collect(), &into)
    }
}
