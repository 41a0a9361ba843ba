//! Optimizers: change parameters from their gradients.

use std::collections::BTreeMap;

use anyhow::Result;
use tch::Tensor;

use crate::registry::{Kind, NodeId, PortKind};
use crate::run::{Instance, Shared, Stateful};

/// Parameters that share their settings.
#[derive(Debug)]
pub struct ParamGroup {
    /// Names of the parameters, as in the model's state dict.
    pub names: Vec<String>,
    /// The parameters themselves.
    pub params: Vec<Tensor>,
    /// The learning rate as configured, before schedulers.
    pub base_lr: f64,
    /// Weight decay of this group.
    pub weight_decay: f64,
    /// SGD's momentum or Adam's first beta, now: schedulers that cycle it write here. `None` for an optimizer without.
    pub momentum: Option<f64>,
    /// What each scheduler multiplies the learning rate by. Factors compose, so warm-up and decay can run together
    /// and a live edit of the base keeps its meaning.
    pub factors: BTreeMap<NodeId, f64>,
}

impl ParamGroup {
    /// The learning rate now: the base times all factors.
    pub fn lr(&self) -> f64 {
        self.factors.values().fold(self.base_lr, |lr, factor| lr * factor)
    }
}

/// Changes a model's parameters from their gradients. Momentum and other state is ours, so it is saved and restored.
pub trait Optimizer: Stateful {
    /// Parameter groups.
    fn groups(&self) -> &[ParamGroup];

    /// Parameter groups, for schedulers and live edits.
    fn groups_mut(&mut self) -> &mut [ParamGroup];

    /// Forgets all gradients.
    fn zero_grad(&mut self);

    /// One update from the gradients that are there.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn step(&mut self) -> Result<()>;

    /// The update of a gradient-scaled step: gradients are multiplied by `1 / scale` and the update is left out where
    /// `found_inf` is 1, both on the device without a sync.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    fn step_scaled(&mut self, scale: &Tensor, found_inf: &Tensor) -> Result<()>;
}

impl PortKind for dyn Optimizer {
    const KIND: Kind = Kind::Optimizer;
    type Shared = Shared<dyn Optimizer>;

    fn from_instance(instance: &Instance) -> Option<Self::Shared> {
        match instance {
            Instance::Optimizer(optimizer) => Some(optimizer.clone()),
            _ => None,
        }
    }
}
