//! A detector of [`pipe_vision`] as the node of a pipeline: batches in, losses or detections out.

use anyhow::{Context, Result};
use tch::Tensor;

use crate::model::ground_truth::{self, check_boxes, check_object_classes};
use pipe_core::{Model, ModelOutput, State, Stateful};
use pipe_data::batch::to_float;
use pipe_data::{Batch, BatchField, Detections, fields};
use pipe_native::fault::is_out_of_memory;
use pipe_vision::checkpoint::Classes;
use pipe_vision::{Detector, Target};

/// A detector as the node of a pipeline.
pub(super) struct DetectionModel {
    detector: Box<dyn Detector>,
    training: bool,
}

impl DetectionModel {
    pub(super) fn new(detector: Box<dyn Detector>) -> Self {
        Self { detector, training: false }
    }

    fn targets(&self, batch: &Batch) -> Result<Vec<Target>> {
        let (boxes, labels) = (batch.list(fields::BOXES)?, batch.list(fields::LABELS)?);
        let masks = self.detector.has_masks().then(|| batch.list(fields::MASKS)).transpose()?.unwrap_or_default();
        let masks = masks.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let targets = boxes.into_iter().zip(labels).zip(masks);
        Ok(targets.map(|((boxes, labels), masks)| Target { boxes, labels, masks }).collect())
    }
}

impl Model for DetectionModel {
    fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    /// Ground truth is read in training only.
    fn check(&self, batch: &Batch) -> Result<()> {
        if !self.training {
            return Ok(());
        }
        let check = |image: &Tensor, target: &Target| {
            self.detector.check_shapes(image, target)?;
            check_boxes(&target.boxes)?;
            check_object_classes(&target.labels, self.detector.num_classes())
        };
        let (images, targets) = (batch.list(fields::IMAGE)?, self.targets(batch)?);
        for (index, (image, target)) in images.iter().zip(&targets).enumerate() {
            check(image, target).with_context(|| format!("ground truth of {}", ground_truth::image(batch, index)))?;
        }
        Ok(())
    }

    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput> {
        let images: Vec<Tensor> = batch.list(fields::IMAGE)?.iter().map(to_float).collect();
        let mut output = ModelOutput { outputs: Batch::new(batch.size), ..ModelOutput::default() };
        // Where memory ran out, the engine names the batch.
        let place = |error: anyhow::Error| match is_out_of_memory(&error) {
            true => error,
            false => error.context(format!("the batch is {}", batch.sources().join(", "))),
        };
        if self.training {
            output.losses = self.detector.forward_train(&images, &self.targets(batch)?).map_err(place)?;
            return Ok(output);
        }
        let found = self.detector.forward_eval(&images).map_err(place)?.into_iter().map(|found| Detections {
            boxes: found.boxes,
            labels: found.labels,
            scores: found.scores,
            masks: found.masks,
        });
        output.outputs.set(fields::DETECTIONS, BatchField::Detections(found.collect()));
        Ok(output)
    }

    fn padded(&self, images: &[[usize; 2]]) -> [usize; 2] {
        let sizes: Vec<(i64, i64)> = images.iter().map(|[height, width]| (*height as i64, *width as i64)).collect();
        let (height, width) = self.detector.padded(&sizes);
        [height as usize, width as usize]
    }

    fn take_largest(&mut self, on: bool) {
        self.detector.take_largest(on);
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.detector.store().trainable()
    }

    fn buffers(&self) -> Vec<(String, Tensor)> {
        self.detector.store().buffers()
    }
}

impl Stateful for DetectionModel {
    fn state(&self) -> Result<State> {
        Ok(State { tensors: self.detector.store().state_dict(), ..State::default() })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.detector.load(&state.tensors, Classes::Same)?;
        Ok(())
    }
}
