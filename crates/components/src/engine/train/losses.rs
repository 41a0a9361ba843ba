//! The losses of a step: their sum, and their values.

use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use pipe_core::{Setting, Settings};
use tch::{Kind as Type, Tensor};

use super::config::TrainConfig;

/// The name of the sum among the losses of a step.
pub(super) const TOTAL: &str = "total_loss";

/// All losses in one transfer from the device, the total last.
pub(super) fn read(total: &Tensor, losses: &IndexMap<String, Tensor>) -> Result<Vec<(String, f64)>> {
    let scalars: Vec<Tensor> =
        losses.values().chain([total]).map(|loss| loss.detach().to_kind(Type::Double).reshape([])).collect();
    let values: Vec<f64> = Vec::try_from(Tensor::f_stack(&scalars, 0)?.to_device(tch::Device::Cpu))?;
    let names = losses.keys().map(String::as_str).chain([TOTAL]);
    Ok(names.map(str::to_owned).zip(values).collect())
}

/// The sum of the losses, each by its weight as it is now, in fp32.
pub(super) fn total(losses: &IndexMap<String, Tensor>, config: &TrainConfig, now: &Settings) -> Result<Tensor> {
    ensure!(!losses.is_empty(), "the model returned no loss: does the batch have the targets to train on?");
    if let Some(name) = config.loss_weights.keys().find(|name| !losses.contains_key(*name)) {
        let known: Vec<&str> = losses.keys().map(String::as_str).collect();
        bail!("`loss_weights` names `{name}`, but the model's losses are {}", known.join(", "));
    }
    let now = now.borrow();
    let weighted = losses.iter().map(|(name, loss)| {
        let (loss, weight) = (loss.to_kind(Type::Float), now.get(&format!("loss_weights.{name}")).map(Setting::value));
        weight.map_or_else(|| loss.shallow_clone(), |weight| &loss * weight)
    });
    weighted.reduce(|sum, loss| sum + loss).context("the model returned no loss")
}
