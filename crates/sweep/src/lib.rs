//! Studies: trials over parameters, kept in Optuna's journal, so that either goes on with what the other began. Knows no pipelines, and needs
//! no libtorch.
//!
//! - [`space`]: the values of parameters, as Optuna has them; which of them there are together
//! - [`study`]: a study and its trials; which are the best
//! - [`journal`]: the file that both are kept in, and what a line of it does
//! - [`sampler`]: which values a trial gets: a grid, chance, TPE
//! - [`population`]: which trials go on from which others, and with what values
//! - [`importance`]: how much each parameter matters
//! - [`pruner`]: which trials are ended early: the median rule, successive halving

pub mod importance;
pub mod journal;
pub mod population;
pub mod pruner;
pub mod sampler;
pub mod space;
pub mod study;

pub use importance::importances;
pub use journal::{Journal, Operation, Replay};
pub use population::Population;
pub use pruner::{Pruner, Verdict};
pub use sampler::Sampler;
pub use space::{Distribution, Parameter, Space, Values};
pub use study::{Direction, State, Study, Trial};
