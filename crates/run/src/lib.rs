//! From a plan to a run, and what a run does apart from its engines.
//!
//! - [`load`]: from files to a plan; [`submitted`]: the files as a job keeps them
//! - [`plugins`]: components of other crates, compiled in or loaded
//! - [`build`](mod@build): plan → built nodes, in topological order; [`graph`]: the built nodes, joined; [`events`]: which
//!   targets run on which event
//! - [`running`]: a run from its beginning to its end; [`options`]: what the command line says of it; [`info`]: `run.json`;
//!   [`captured`]: where it comes from and how busy its machine is; [`differences`]: what is another than in the life before; [`labels`]: whether labels mean the same classes; [`checks`]: what rules learn
//!   of the data
//! - [`resume`]: where a run begins or goes on; [`folders`]: where runs are stored; [`lock`], [`heartbeat`]: one writer a folder
//! - [`checkpoint`]: writing and reading checkpoints, [`behind`] the training; [`random`]: the states of the random generators
//! - [`preflight`]: the largest batches tried before the first step
//! - [`versions`]: every version of a run's pipeline; [`state_at`]: a run as it was at a step; [`told`]: what the first of several processes tells the others
//! - [`reload`]: edits of the file applied to a running pipeline

pub mod behind;
pub mod build;
mod captured;
pub mod checkpoint;
pub mod checks;
pub mod differences;
pub mod events;
pub mod folders;
pub mod graph;
pub mod info;
pub mod labels;
pub mod load;
pub mod options;
pub mod plugins;
pub mod preflight;
pub mod random;
pub mod reload;
pub mod resume;
pub mod running;
pub mod state_at;
pub mod submitted;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod told;
pub mod versions;

pub use graph::Graph;
pub use options::RunOptions;
pub use pipe_history::{heartbeat, lock};
pub use running::{Ending, Running};
