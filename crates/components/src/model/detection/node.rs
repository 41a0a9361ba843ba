//! A detector of [`pipe_vision`] as the node of a pipeline: batches in, losses or detections out.

use anyhow::{Context, Result};
use indexmap::IndexMap;
use tch::Tensor;

use pipe_core::{Model, ModelOutput, State, Stateful};
use pipe_data::batch::to_float;
use pipe_data::{Batch, BatchField, Detections, fields};
use pipe_vision::checkpoint::Classes;
use pipe_vision::nn::{LoadReport, ParameterStore, StateDict};
use pipe_vision::{FasterRcnn, MaskRcnn, Target};

/// A detector of [`pipe_vision`].
pub(in crate::model) trait Detector {
    /// Whether it finds masks.
    const MASKS: bool;
    fn store(&self) -> &ParameterStore;
    fn train(&self, images: &[Tensor], targets: &[Target]) -> Result<IndexMap<String, Tensor>>;
    fn detect(&self, images: &[Tensor]) -> Result<Vec<pipe_vision::Detections>>;
    fn load(&self, state: &StateDict, classes: Classes) -> Result<LoadReport>;
    fn load_backbone(&self, state: &StateDict) -> Result<LoadReport>;
}

macro_rules! detector {
    ($model:ty, $masks:literal) => {
        impl Detector for $model {
            const MASKS: bool = $masks;

            fn store(&self) -> &ParameterStore {
                self.store()
            }

            fn train(&self, images: &[Tensor], targets: &[Target]) -> Result<IndexMap<String, Tensor>> {
                self.forward_train(images, targets)
            }

            fn detect(&self, images: &[Tensor]) -> Result<Vec<pipe_vision::Detections>> {
                self.forward_eval(images)
            }

            fn load(&self, state: &StateDict, classes: Classes) -> Result<LoadReport> {
                self.load(state, classes)
            }

            fn load_backbone(&self, state: &StateDict) -> Result<LoadReport> {
                self.load_backbone(state)
            }
        }
    };
}

detector!(FasterRcnn, false);
detector!(MaskRcnn, true);

/// A detector as the node of a pipeline.
pub(super) struct DetectionModel<D> {
    detector: D,
    training: bool,
}

impl<D: Detector> DetectionModel<D> {
    pub(super) fn new(detector: D) -> Self {
        Self { detector, training: false }
    }

    fn targets(batch: &Batch) -> Result<Vec<Target>> {
        let (boxes, labels) = (batch.list(fields::BOXES)?, batch.list(fields::LABELS)?);
        let masks = if D::MASKS { batch.list(fields::MASKS)?.into_iter().map(Some).collect() } else { Vec::new() };
        let masks = masks.into_iter().chain(std::iter::repeat_with(|| None));
        let targets = boxes.into_iter().zip(labels).zip(masks);
        Ok(targets.map(|((boxes, labels), masks)| Target { boxes, labels, masks }).collect())
    }
}

impl<D: Detector> Model for DetectionModel<D> {
    fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput> {
        let images: Vec<Tensor> = batch.list(fields::IMAGE)?.iter().map(to_float).collect();
        let mut output = ModelOutput { outputs: Batch::new(batch.size), ..ModelOutput::default() };
        let place = || format!("the batch is {}", batch.sources().join(", "));
        if self.training {
            output.losses = self.detector.train(&images, &Self::targets(batch)?).with_context(place)?;
            return Ok(output);
        }
        let found = self.detector.detect(&images).with_context(place)?.into_iter().map(|found| Detections {
            boxes: found.boxes,
            labels: found.labels,
            scores: found.scores,
            masks: found.masks,
        });
        output.outputs.set(fields::DETECTIONS, BatchField::Detections(found.collect()));
        Ok(output)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.detector.store().trainable()
    }
}

impl<D: Detector> Stateful for DetectionModel<D> {
    fn state(&self) -> Result<State> {
        Ok(State { tensors: self.detector.store().state_dict(), ..State::default() })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.detector.load(&state.tensors, Classes::Same)?;
        Ok(())
    }
}
