//! Schedulers: drive an optimizer's values over time.
//!
//! Most are a [`Curve`]: the learning rate as a function of the steps counted, so that a resumed run stands exactly where
//! it stood, and several schedulers of one optimizer multiply (warm-up and decay). [`plateau`] alone follows a value.
//!
//! - [`curve`]: curves, what steps them, and their simulation before a run

pub mod cosine;
pub mod cosine_warm_restarts;
pub mod curve;
pub mod exponential;
pub mod linear_warmup;
pub mod multistep;
pub mod one_cycle;
pub mod piecewise_linear;
pub mod plateau;
pub mod polynomial;
pub mod step;

use anyhow::Result;

pub use curve::{Curve, Scheduled, curve_of, simulate};

use crate::registry::{Kind, PortKind};
use crate::run::{Instance, RunContext, Shared, Stateful};

/// Drives an optimizer's values; stepped by the event edges that name it.
pub trait Scheduler: Stateful {
    /// Counts one step and applies its value to the optimizer. What was built before the first step has already applied
    /// the value of step 0.
    ///
    /// # Errors
    /// When a monitored value is missing.
    fn step(&mut self, run: &RunContext) -> Result<()>;
}

impl PortKind for dyn Scheduler {
    const KIND: Kind = Kind::Scheduler;
    type Shared = Shared<dyn Scheduler>;

    fn from_instance(instance: &Instance) -> Option<Self::Shared> {
        match instance {
            Instance::Scheduler(scheduler) => Some(scheduler.clone()),
            _ => None,
        }
    }
}
