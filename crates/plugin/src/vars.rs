//! Models made of tch's own layers: what a [`Model`](crate::Model) must say of a `VarStore`.

use anyhow::{Result, ensure};
use indexmap::IndexMap;
use tch::Tensor;
use tch::nn::VarStore;

use crate::state::State;

/// Every variable by name, sorted.
fn sorted(vars: &VarStore) -> Vec<(String, Tensor)> {
    let mut all: Vec<_> = vars.variables().into_iter().collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

/// The trainable parameters by name: [`Model::parameters`](crate::Model::parameters).
pub fn parameters(vars: &VarStore) -> Vec<(String, Tensor)> {
    sorted(vars).into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect()
}

/// The model's state dict: [`Stateful::state`](crate::Stateful::state).
pub fn state(vars: &VarStore) -> State {
    let tensors: IndexMap<String, Tensor> =
        sorted(vars).into_iter().map(|(name, tensor)| (name, tensor.detach())).collect();
    State { tensors, ..State::default() }
}

/// Fills the variables from a state dict: [`Stateful::load_state`](crate::Stateful::load_state).
///
/// # Errors
/// When a variable is missing there or has another shape; nothing is changed then.
pub fn load_state(vars: &VarStore, state: &State) -> Result<()> {
    let own = sorted(vars);
    for (name, tensor) in &own {
        let saved = state.tensors.get(name).map(Tensor::size);
        let shape = tensor.size();
        ensure!(saved.as_ref() == Some(&shape), "`{name}` is of shape {shape:?} here and {saved:?} in what was saved");
    }
    for (name, mut tensor) in own {
        tch::no_grad(|| tensor.f_copy_(&state.tensors[&name]))?;
    }
    Ok(())
}
