//! Shared parts of the networks over images: `logits` or predicted numbers and a loss out, weights from a file.

use anyhow::{Context, Result, ensure};
use indexmap::IndexMap;
use tch::Tensor;

use super::ground_truth::check_classes;
use super::loss::{ClassLoss, Loss};
use super::weights;
use pipe_core::{BuildContext, PathValue, State, Stateful};
use pipe_core::{Model, ModelOutput};
use pipe_data::batch::to_float;
use pipe_data::{Batch, BatchField, fields};
use pipe_vision::nn::{LoadOptions, ParameterStore};

/// The ignored label.
pub(super) const IGNORED: i64 = -100;

/// A function from images to class scores.
pub trait Network {
    /// What to set in a pipeline whose dataset has more classes than the network.
    const HELP: &'static str;

    /// The number of classes; `None` where only a forward pass tells.
    fn classes(&self) -> Option<i64>;

    /// Images `[N, C, H, W]` to logits `[N, classes]`.
    ///
    /// # Errors
    /// When the images do not match the first layer, or layers do not match each other.
    fn forward(&self, images: &Tensor, training: bool) -> Result<Tensor>;
}

/// A network with its parameters and its loss.
pub struct Classifier<N> {
    network: N,
    store: ParameterStore,
    loss: Loss,
    /// The same, where it is of classes.
    class_loss: Option<ClassLoss>,
    /// As far as they are known.
    classes: Option<i64>,
    training: bool,
}

impl<N: Network> Classifier<N> {
    /// A classifier whose parameters are moved to the run's device and loaded from a weights file if one is given.
    ///
    /// # Errors
    /// When the weights cannot be read or none of them match, or the loss is for other classes.
    pub fn new(
        network: N,
        store: ParameterStore,
        loss: Loss,
        weights: Option<&PathValue>,
        ctx: &mut BuildContext<'_>,
    ) -> Result<Self> {
        if let Some(value) = weights.filter(|_| ctx.initial_weights) {
            load_weights(&store, value, ctx)?;
        }
        store.to(ctx.device)?;
        let classes = network.classes();
        let class_loss = loss.of_classes(classes, ctx.device)?;
        Ok(Classifier { network, store, loss, class_loss, classes, training: true })
    }
}

/// Loads weights from a file and reports mismatches.
fn load_weights(store: &ParameterStore, value: &PathValue, ctx: &mut BuildContext<'_>) -> Result<()> {
    let (weights, path) = weights::read(value, ctx.node)?;
    let report = store.load_state_dict(&weights.tensors, &LoadOptions::lenient())?;
    ensure!(!report.loaded.is_empty(), "no weights in {} match this model:\n{report}", path.display());
    // A head of another shape is what fine-tuning is about.
    if report.missing.is_empty() {
        tracing::info!("loading weights from {}: {report}", path.display());
    } else {
        tracing::warn!("loading weights from {}: {report}", path.display());
    }
    weights::remember_classes(&weights, &report, ctx);
    Ok(())
}

impl<N> Stateful for Classifier<N> {
    fn state(&self) -> Result<State> {
        Ok(State { tensors: self.store.state_dict(), ..State::default() })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.store.load_state_dict(&state.tensors, &LoadOptions::default()).map(|_| ())
    }
}

impl<N: Network> Model for Classifier<N> {
    fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        match (self.classes, batch.get(fields::LABEL)) {
            (Some(classes), Some(BatchField::Stacked(labels))) if self.loss.target().is_none() => {
                check_classes(batch, labels, classes, IGNORED, N::HELP)
            }
            _ => Ok(()),
        }
    }

    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput> {
        let images = to_float(batch.stacked(fields::IMAGE)?);
        let logits = self.network.forward(&images, self.training)?;
        let mut output = ModelOutput { losses: IndexMap::new(), outputs: Batch::new(batch.size) };
        let Some(class_loss) = &self.class_loss else {
            if let Some(target) = self.loss.target().filter(|target| batch.get(target).is_some()) {
                let (name, loss) = self.loss.of_numbers(&logits, batch.stacked(target)?)?;
                output.losses.insert(name.into(), loss);
            }
            output.outputs.set(fields::PREDICTION, BatchField::Stacked(logits));
            return Ok(output);
        };
        if batch.get(fields::LABEL).is_some() {
            let labels = batch.stacked(fields::LABEL)?;
            let classes = count_classes(&logits)?;
            if self.classes.replace(classes) != Some(classes) {
                // Not known before this pass: the only time that labels are looked at where they are.
                check_classes(batch, labels, classes, IGNORED, N::HELP)?;
            }
            class_loss.tell((class_loss.name(), 1.0), &logits, labels, IGNORED)?;
            output.losses.insert(class_loss.name().into(), class_loss.of(&logits, labels, IGNORED)?);
        }
        output.outputs.set(fields::LOGITS, BatchField::Stacked(logits));
        Ok(output)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.store.trainable()
    }

    fn buffers(&self) -> Vec<(String, Tensor)> {
        self.store.buffers()
    }
}

/// The number of classes of scores `[N, classes, …]`.
pub(super) fn count_classes(logits: &Tensor) -> Result<i64> {
    let size = logits.size();
    size.get(1).copied().with_context(|| format!("the network gave {size:?}, not a score for each class of each image"))
}
