//! Optimizers: change parameters from their gradients.

use std::cell::RefMut;
use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use pipe_native::optim::zero_grads;
use pipe_plugin::Stateful;
use pipe_vocab::NodeId;
use tch::Tensor;

use crate::Shared;

/// The setting that every optimizer has.
pub const LR: &str = "lr";

/// The setting that is momentum: SGD's, or Adam's first beta.
const MOMENTUM: [&str; 2] = ["momentum", "betas[0]"];

/// Parameters that share their settings.
#[derive(Debug)]
pub struct ParamGroup {
    /// Names of the parameters, as in the model's state dict.
    pub names: Vec<String>,
    /// The parameters themselves.
    pub params: Vec<Tensor>,
    /// Which table of the optimizer's `groups` it comes from; `None` for parameters in no table.
    pub table: Option<usize>,
    /// The settings as configured, before schedulers, by the option's name: `lr`, `weight_decay`, `betas[0]`.
    pub settings: BTreeMap<String, f64>,
    /// What each scheduler multiplies a setting by: setting, scheduler. Factors compose, so warm-up and decay can run together
    /// and a live edit of the base keeps its meaning.
    pub factors: BTreeMap<(String, NodeId), f64>,
}

impl ParamGroup {
    /// A group without schedulers as yet, of no table.
    pub fn new<'a>(
        names: Vec<String>,
        params: Vec<Tensor>,
        settings: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> ParamGroup {
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        ParamGroup { names, params, table: None, settings, factors: BTreeMap::new() }
    }

    /// A setting as it is now: the configured value times all factors.
    pub fn value(&self, setting: &str) -> Option<f64> {
        let base = *self.settings.get(setting)?;
        let factors = self.factors.iter().filter(|((of, _), _)| of == setting);
        Some(factors.fold(base, |value, (_, factor)| value * factor))
    }

    /// The learning rate now.
    pub fn lr(&self) -> f64 {
        self.value(LR).unwrap_or(0.0)
    }

    /// The settings that schedulers drive; one that several drive comes as often.
    pub fn driven(&self) -> impl Iterator<Item = &str> {
        self.factors.keys().map(|(setting, _)| setting.as_str())
    }

    /// The name of the setting that is momentum, where the optimizer has one.
    pub fn momentum(&self) -> Option<&'static str> {
        MOMENTUM.into_iter().find(|name| self.settings.contains_key(*name))
    }

    /// Sets the factor by which the scheduler `node` brings a setting from its configured value to `value`. A setting of 0 is
    /// switched off and stays so.
    ///
    /// # Errors
    /// When the setting cannot have that value.
    pub fn set(&mut self, setting: &str, node: &NodeId, value: f64) -> Result<()> {
        let Some(base) = self.settings.get(setting).copied() else { return Ok(()) };
        let below = if setting.starts_with("betas") { 1.0 } else { f64::INFINITY };
        ensure!((0.0..below).contains(&value), "{node} would set `{setting}` to {value}, which it cannot be");
        let factor = if base == 0.0 { 1.0 } else { value / base };
        self.factors.insert((setting.to_owned(), node.clone()), factor);
        Ok(())
    }
}

/// Changes a model's parameters from their gradients. Momentum and other state is ours, so it is saved and restored.
pub trait Optimizer: Stateful {
    /// Parameter groups.
    fn groups(&self) -> &[ParamGroup];

    /// Parameter groups, for schedulers and live edits.
    fn groups_mut(&mut self) -> &mut [ParamGroup];

    /// Forgets all gradients.
    fn zero_grad(&mut self) {
        for group in self.groups() {
            // Removing gradients frees memory without touching the device: there is nothing in it that can fail.
            if let Err(error) = zero_grads(&group.params, true) {
                tracing::error!("gradients could not be removed: {error:#}");
            }
        }
    }

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
