//! Handlers: called on events.

use anyhow::Result;
use pipe_plugin::Stateful;

use super::event::EventContext;
use super::settings::Settings;
use crate::context::RunContext;

/// Called on the events that name it.
pub trait Handler: Stateful {
    /// Does its work.
    ///
    /// # Errors
    /// They never vanish: the other targets of the event run, then the engine stops with the error.
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()>;

    /// Whether it looks at the gradients on the model's parameters: a checkpoint taken before it in the same event keeps them.
    fn reads_gradients(&self) -> bool {
        false
    }

    /// Its numbers that schedulers may drive.
    fn settings(&self) -> Option<Settings> {
        None
    }

    /// Told once when the run has ended, however it did.
    ///
    /// # Errors
    /// When what is left to do cannot be done.
    fn finish(&mut self, _run: &RunContext) -> Result<()> {
        Ok(())
    }
}
