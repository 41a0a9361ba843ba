//! Optimizers: update parameters from their gradients.
//!
//! - [`group`]: parameter groups by name patterns
//! - [`stepper`]: shared by all optimizers: stepping group by group, state by parameter name

pub mod adam;
pub mod adamw;
pub mod group;
pub mod sgd;
pub mod stepper;
