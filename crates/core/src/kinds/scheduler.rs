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
}
