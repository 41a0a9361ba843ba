//! Numbers of a node that schedulers drive while it works; those of optimizers lie in their parameter groups.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use anyhow::{Result, ensure};
use pipe_vocab::NodeId;

use crate::Shared;

/// The numbers of a node by the option's name: `clip_grad_norm`, `loss_weights.mask`. The node reads them when it needs them.
pub type Settings = Shared<BTreeMap<String, Setting>>;

/// A number as configured, and what each scheduler multiplies it by. Factors compose, as in a parameter group.
#[derive(Debug, Clone)]
pub struct Setting {
    configured: f64,
    range: RangeInclusive<f64>,
    factors: BTreeMap<NodeId, f64>,
}

impl Setting {
    /// A number that no scheduler drives as yet, and the values that it can have.
    pub fn new(configured: f64, range: RangeInclusive<f64>) -> Setting {
        Setting { configured, range, factors: BTreeMap::new() }
    }

    /// The number as configured.
    pub fn configured(&self) -> f64 {
        self.configured
    }

    /// The number now.
    pub fn value(&self) -> f64 {
        self.factors.values().fold(self.configured, |value, factor| value * factor)
    }

    /// Whether a scheduler drives it.
    pub fn is_driven(&self) -> bool {
        !self.factors.is_empty()
    }

    /// Sets the factor by which the scheduler `node` brings it from its configured value to `value`. One of 0 is switched off and
    /// stays so.
    ///
    /// # Errors
    /// When it cannot have that value.
    pub fn set(&mut self, node: &NodeId, value: f64) -> Result<()> {
        let Setting { configured, range, factors } = self;
        let (least, most) = (range.start(), range.end());
        ensure!(range.contains(&value), "{node} would set it to {value}, which is not between {least} and {most}");
        factors.insert(node.clone(), if *configured == 0.0 { 1.0 } else { value / *configured });
        Ok(())
    }
}
