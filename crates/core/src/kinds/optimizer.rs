//! Optimizers: change parameters from their gradients.

use std::cell::RefMut;
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use pipe_plugin::Stateful;
use pipe_vocab::NodeId;
use tch::Tensor;

use crate::Shared;

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

    /// Sets the factor by which the scheduler `node` brings the group from its configured rate to `lr`. A group with rate 0
    /// is frozen and stays so.
    pub fn set_factor(&mut self, node: &NodeId, lr: f64) {
        let factor = if self.base_lr == 0.0 { 1.0 } else { lr / self.base_lr };
        self.factors.insert(node.clone(), factor);
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

    /// The update of a gradient-scaled step: gradients are multiplied by `1 / scale` and the update is skipped where
    /// `found_inf` is 1, both on the device without a sync.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    fn step_scaled(&mut self, scale: &Tensor, found_inf: &Tensor) -> Result<()>;
}

/// The optimizer for writing.
///
/// # Errors
/// While it makes a step.
pub fn writable<'a>(
    optimizer: &'a Shared<dyn Optimizer>,
    node: &NodeId,
) -> Result<RefMut<'a, dyn Optimizer + 'static>> {
    optimizer.try_borrow_mut().with_context(|| format!("{node} cannot act while its optimizer makes a step"))
}
