//! Models: losses in training, outputs in evaluation.

use std::cell::RefCell;

use anyhow::{Result, bail};
use indexmap::IndexMap;
use tch::Tensor;

use super::state::{Deferred, serve_state};
use crate::Kind;
use crate::boundary::{Input, Remote, Served, no_method};
use crate::data::Batch;
use crate::message::{Message, Wire};
use crate::state::{State, Stateful};

const FORWARD: u32 = 1;
const SET_TRAINING: u32 = 2;
const PARAMETERS: u32 = 3;
const CHECK: u32 = 4;
const BUFFERS: u32 = 5;

/// What a model makes of a batch.
#[derive(Debug, Default)]
pub struct ModelOutput {
    /// Named scalar losses. In training at least one; in evaluation those that the batch's targets allow.
    pub losses: IndexMap<String, Tensor>,
    /// Outputs by field name (`logits`, `detections`), in evaluation; classifiers give them in training too.
    pub outputs: Batch,
}

impl ModelOutput {
    /// The same output, its tensors shared.
    pub fn shallow_clone(&self) -> ModelOutput {
        let losses = self.losses.iter().map(|(name, loss)| (name.clone(), loss.shallow_clone())).collect();
        ModelOutput { losses, outputs: self.outputs.shallow_clone() }
    }
}

/// A network with its losses.
///
/// Its saved state's tensors are its `state_dict`, under torchvision's names.
pub trait Model: Stateful {
    /// Switches dropout, batch norm and the like between training and evaluation.
    fn set_training(&mut self, training: bool);

    /// Checks the values of a batch that still lies on the CPU, where looking at them costs nothing: labels, boxes. Called
    /// before each [`Self::forward`] of an engine, after [`Self::set_training`].
    ///
    /// # Errors
    /// When a value would give senseless losses or fail deep inside a GPU kernel: which image, what is wrong, what to do.
    fn check(&self, _batch: &Batch) -> Result<()> {
        Ok(())
    }

    /// Runs the model on a batch that lies on the model's device.
    ///
    /// # Errors
    /// When the batch does not fit: which field or sample, and why.
    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput>;

    /// Moves an average towards the weights of the model that it is made of: `average += momentum · (weights − average)`.
    /// Whole numbers are copied, and so is every buffer where `copy_buffers` says it.
    ///
    /// # Errors
    /// When this model is no average of another.
    fn average(&mut self, _momentum: f64, _copy_buffers: bool) -> Result<()> {
        bail!("it is no average of another model; `model.ema` is one")
    }

    /// The height and width in pixels to which a batch of images is padded, given theirs: the largest, where the model draws its sizes.
    fn padded(&self, images: &[[usize; 2]]) -> [usize; 2] {
        largest(images)
    }

    /// Whether from now on chance and weights are to decide so that training needs most memory, as far as that is up to the model: to
    /// learn how much a batch may need.
    fn take_largest(&mut self, _on: bool) {}

    /// Whether evaluation from now on gives losses beside outputs, as far as the batch's targets allow: a model that gives them anyway
    /// need not listen.
    fn give_losses(&mut self, _on: bool) {}

    /// Trainable parameters by name, in the order of the state dict: the same tensors as long as the model lives.
    fn parameters(&self) -> Vec<(String, Tensor)>;

    /// What a forward pass in training changes by itself, by name: running statistics and the like. The same tensors as long
    /// as the model lives. A trainer that leaves a batch out puts them back as they were before it.
    fn buffers(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}

/// The greatest height and the greatest width.
pub fn largest(images: &[[usize; 2]]) -> [usize; 2] {
    images.iter().fold([0, 0], |[height, width], image| [height.max(image[0]), width.max(image[1])])
}

/// In a cell, so that a model that calls itself through the program is an error and not a fault.
impl Served for RefCell<Box<dyn Model>> {
    fn serve(&self, method: u32, mut input: Input<'_>) -> Result<Message> {
        let model = &mut **self.try_borrow_mut()?;
        match method {
            FORWARD => Message::of(&model.forward(&Batch::unpack(&mut input.reader)?)?),
            SET_TRAINING => {
                model.set_training(input.reader.get()?);
                Ok(Message::default())
            }
            PARAMETERS => Message::of(&model.parameters()),
            CHECK => model.check(&Batch::unpack(&mut input.reader)?).map(|()| Message::default()),
            BUFFERS => Message::of(&model.buffers()),
            other => serve_state(model, other, input).unwrap_or_else(|| Err(no_method(Kind::Model, other))),
        }
    }
}

/// A model of the other side, as the program uses it.
pub struct RemoteModel {
    remote: Deferred,
    parameters: Vec<(String, Tensor)>,
    buffers: Vec<(String, Tensor)>,
}

impl RemoteModel {
    pub(crate) fn new(remote: Remote) -> Result<RemoteModel> {
        let tensors = |method| Vec::unpack(&mut remote.call(method, &Message::default())?.reader());
        let (parameters, buffers) = (tensors(PARAMETERS)?, tensors(BUFFERS)?);
        Ok(RemoteModel { remote: Deferred::new(remote), parameters, buffers })
    }
}

impl Stateful for RemoteModel {
    fn state(&self) -> Result<State> {
        self.remote.state()
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.remote.load_state(state)
    }
}

impl Model for RemoteModel {
    fn set_training(&mut self, training: bool) {
        self.remote.tell(SET_TRAINING, Message::plain(&training));
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        self.remote.call(CHECK, &Message::of(batch)?).map(drop)
    }

    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput> {
        let answer = self.remote.call(FORWARD, &Message::of(batch)?)?;
        ModelOutput::unpack(&mut answer.reader())
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        shared(&self.parameters)
    }

    fn buffers(&self) -> Vec<(String, Tensor)> {
        shared(&self.buffers)
    }
}

fn shared(tensors: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{Build, Component, Config, Instance};

    /// A model that takes two images at a time.
    #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
    struct Pairs {}

    impl Config for Pairs {
        const KIND: Kind = Kind::Model;
        const TYPE: &'static str = "pairs";
        const EXAMPLE: &'static str = "[model.pairs]\ntype = \"pairs\"\n";
    }

    impl Component for Pairs {
        fn build(self, _ctx: &mut Build) -> Result<Instance> {
            Ok(Instance::model(PairsModel { mean: Tensor::from(0.5f32) }))
        }
    }

    struct PairsModel {
        mean: Tensor,
    }

    impl Stateful for PairsModel {}

    impl Model for PairsModel {
        fn set_training(&mut self, _training: bool) {}

        fn check(&self, batch: &Batch) -> Result<()> {
            ensure!(batch.size == 2, "{} images", batch.size);
            Ok(())
        }

        fn forward(&mut self, _batch: &Batch) -> Result<ModelOutput> {
            let _ = self.mean.f_fill_(2.0)?;
            Ok(ModelOutput::default())
        }

        fn parameters(&self) -> Vec<(String, Tensor)> {
            Vec::new()
        }

        fn buffers(&self) -> Vec<(String, Tensor)> {
            vec![("mean".to_owned(), self.mean.shallow_clone())]
        }
    }

    #[test]
    fn checks_and_buffers_cross_the_border() {
        let mut model = crate::testing::model::<Pairs>(serde_json::json!({})).unwrap();
        model.check(&Batch::new(2)).unwrap();
        let error = format!("{:#}", model.check(&Batch::new(3)).unwrap_err());
        assert!(error.contains("3 images"), "{error}");
        let buffers = model.buffers();
        assert_eq!(buffers[0].0, "mean");
        model.forward(&Batch::new(2)).unwrap();
        assert_eq!(f64::try_from(&buffers[0].1).unwrap(), 2.0, "the model's own tensor, not a copy");
    }
}
