//! Handlers: called on events.
//!
//! - [`pictures`]: what those that draw share
//! - [`retention`]: which checkpoints stay

pub mod checkpoint;
pub mod debug_images;
pub mod early_stopping;
pub mod ema;
pub mod gradients_histogram;
pub mod hparams;
pub mod pictures;
pub mod process;
pub mod profiler;
pub mod retention;
pub mod sample_images;
pub mod system_stats;
pub mod terminate_on_nan;
pub mod time_limit;
pub mod weights_histogram;

use anyhow::{Context, Result};

use crate::engine::EventContext;
use crate::registry::{Kind, PortKind};
use crate::run::{Instance, RunContext, Shared, Stateful};

/// Called on the events that name it.
pub trait Handler: Stateful {
    /// Does its work.
    ///
    /// # Errors
    /// They never vanish: the other targets of the event run, then the engine stops with the error.
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()>;

    /// Told once when the run has ended, however it did.
    ///
    /// # Errors
    /// When what is left to do cannot be done.
    fn finish(&mut self, _run: &RunContext) -> Result<()> {
        Ok(())
    }
}

/// Tells every handler of the run that it has ended.
///
/// # Errors
/// The first handler's error, after all were told.
pub fn finish_all(run: &RunContext) -> Result<()> {
    let mut first = None;
    for (id, instance) in run.nodes.borrow().iter() {
        if let Instance::Handler(handler) = instance {
            let told = handler.borrow_mut().finish(run).with_context(|| format!("ending {id}"));
            first = first.or(told.err());
        }
    }
    first.map_or(Ok(()), Err)
}

impl PortKind for dyn Handler {
    const KIND: Kind = Kind::Handler;
    type Shared = Shared<dyn Handler>;

    fn from_instance(instance: &Instance) -> Option<Self::Shared> {
        match instance {
            Instance::Handler(handler) => Some(handler.clone()),
            _ => None,
        }
    }
}
