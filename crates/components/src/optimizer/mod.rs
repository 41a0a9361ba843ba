//! Optimizers: update parameters from their gradients.
//!
//! - `adam_rule`: what Adam and AdamW share
//! - [`group`]: parameter groups by name patterns
//! - [`stepper`]: shared by all optimizers: stepping group by group, state by parameter name

pub mod adam;
mod adam_rule;
pub mod adamw;
pub mod group;
pub mod sgd;
pub mod stepper;
