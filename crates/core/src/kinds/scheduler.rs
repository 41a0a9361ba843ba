//! Schedulers: drive an optimizer's values over time.

use anyhow::Result;
use pipe_plugin::Stateful;

use crate::context::RunContext;

/// Drives an optimizer's values; stepped by the event edges that name it.
pub trait Scheduler: Stateful {
    /// Counts one step and applies its value to the optimizer. What was built before the first step has already applied
    /// the value of step 0.
    ///
    /// # Errors
    /// When a monitored value is missing.
    fn step(&mut self, run: &RunContext) -> Result<()>;

    /// The value after `step` steps of a setting that is configured as `base`, of those that know it in advance.
    fn value_at(&self, _step: u64, _base: f64) -> Option<f64> {
        None
    }

    /// The momentum after `step` steps, of those that drive it with the learning rate.
    fn momentum_at(&self, _step: u64) -> Option<f64> {
        None
    }
}
