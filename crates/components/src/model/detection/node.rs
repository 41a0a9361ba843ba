//! A detector of [`pipe_vision`] as the node of a pipeline: batches in, losses or detections out.

use anyhow::{Context, Result};
use rand::Rng;
use tch::Tensor;

use crate::model::ground_truth::{self, check_boxes, check_keypoints, check_object_classes};
use pipe_core::{Model, ModelOutput, State, Stateful};
use pipe_data::batch::to_float;
use pipe_data::random::{Purpose, stream};
use pipe_data::{Batch, BatchField, Detections, fields};
use pipe_native::fault::is_out_of_memory;
use pipe_vision::checkpoint::Classes;
use pipe_vision::{Detector, Target};

/// A detector as the node of a pipeline.
pub(super) struct DetectionModel {
    detector: Box<dyn Detector>,
    training: bool,
    /// Whether it gives losses in evaluation, too.
    losses: bool,
    /// Samples are drawn for those by this seed and the image.
    seed: u64,
}

impl DetectionModel {
    pub(super) fn new(detector: Box<dyn Detector>, seed: u64) -> Self {
        Self { detector, training: false, losses: false, seed }
    }

    fn targets(&self, batch: &Batch) -> Result<Vec<Target>> {
        let (boxes, labels) = (batch.list(fields::BOXES)?, batch.list(fields::LABELS)?);
        let masks = self.detector.has_masks().then(|| batch.list(fields::MASKS)).transpose()?.unwrap_or_default();
        let keypoints =
            self.detector.keypoints().map(|_| batch.list(fields::KEYPOINTS)).transpose()?.unwrap_or_default();
        let (mut masks, mut keypoints) = (masks.into_iter(), keypoints.into_iter());
        let targets = boxes.into_iter().zip(labels);
        let target = |(boxes, labels)| Target { boxes, labels, masks: masks.next(), keypoints: keypoints.next() };
        Ok(targets.map(target).collect())
    }

    /// For each image a number that its name and the seed give.
    fn keys(&self, batch: &Batch) -> Vec<u64> {
        let key = |source: &String| {
            let name = u64::from(crc32fast::hash(source.as_bytes()));
            // Generators take numbers up to 2⁶³, and a few more are counted on.
            stream(self.seed, Purpose::Losses, 0, name).random::<u64>() >> 2
        };
        batch.sources().iter().map(key).collect()
    }
}

impl Model for DetectionModel {
    fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    /// Ground truth is read for losses only.
    fn check(&self, batch: &Batch) -> Result<()> {
        if !self.training && !self.losses {
            return Ok(());
        }
        let check = |image: &Tensor, target: &Target| {
            self.detector.check_shapes(image, target)?;
            check_boxes(&target.boxes)?;
            target.keypoints.iter().try_for_each(check_keypoints)?;
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
        let found = match self.losses {
            false => self.detector.forward_eval(&images),
            true => {
                let (targets, keys) = (self.targets(batch)?, self.keys(batch));
                self.detector.forward_with_losses(&images, &targets, &keys).map(|(losses, found)| {
                    output.losses = losses;
                    found
                })
            }
        };
        let found = found.map_err(place)?.into_iter().map(|found| Detections {
            boxes: found.boxes,
            labels: found.labels,
            scores: found.scores,
            masks: found.masks,
            keypoints: found.keypoints,
            keypoints_scores: found.keypoints_scores,
        });
        output.outputs.set(fields::DETECTIONS, BatchField::Detections(found.collect()));
        Ok(output)
    }

    fn padded(&self, images: &[[usize; 2]]) -> [usize; 2] {
        let sizes: Vec<(i64, i64)> = images.iter().map(|[height, width]| (*height as i64, *width as i64)).collect();
        let (height, width) = self.detector.padded(&sizes);
        [height as usize, width as usize]
    }

    fn give_losses(&mut self, on: bool) {
        self.losses = on;
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
