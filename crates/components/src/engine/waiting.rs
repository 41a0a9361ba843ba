//! Gradients that wait for the optimizer's step, across a checkpoint taken inside a group of batches.

use anyhow::{Context, Result, ensure};
use indexmap::IndexMap;
use tch::Tensor;

use pipe_core::Optimizer;

/// The summed gradients of the first batches of a group.
#[derive(Default)]
pub(super) struct Waiting {
    /// How many batches.
    pub(super) batches: u64,
    /// By parameter, under names of a state.
    pub(super) gradients: IndexMap<String, Tensor>,
}

impl Waiting {
    /// What an optimizer's parameters hold now, shared with them.
    pub(super) fn of(optimizer: &dyn Optimizer, batches: u64) -> Waiting {
        let groups = optimizer.groups().iter();
        let parameters = groups.flat_map(|group| group.names.iter().zip(&group.params));
        let gradients = parameters.map(|(name, parameter)| (key(name), parameter.grad()));
        Waiting { batches, gradients: gradients.filter(|(_, gradient)| gradient.defined()).collect() }
    }

    /// Gives the parameters, which must have no gradients, these.
    ///
    /// # Errors
    /// When the model is another one.
    pub(super) fn give_to(&self, optimizer: &dyn Optimizer) -> Result<()> {
        for (name, parameter) in optimizer.groups().iter().flat_map(|group| group.names.iter().zip(&group.params)) {
            let Some(gradient) = self.gradients.get(&key(name)) else { continue };
            let (has, needs) = (gradient.size(), parameter.size());
            ensure!(has == needs, "the gradient of `{name}` in the checkpoint is {has:?}, the parameter {needs:?}");
            // libtorch has no other way to set a gradient: that of the sum of p · g by p is g, to the last bit.
            let product = parameter.f_mul(&gradient.to_device(parameter.device()))?.f_sum(parameter.kind())?;
            product.f_backward().with_context(|| format!("the gradient of `{name}`"))?;
        }
        Ok(())
    }
}

fn key(parameter: &str) -> String {
    format!("gradient/{parameter}")
}
