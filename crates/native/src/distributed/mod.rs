//! Processes that work together, each a rank: a store that all of them read, collectives, gradients that are reduced while
//! backward goes on. On CPUs by Gloo, which libtorch has inside; between GPUs by NCCL.

mod group;
mod joint;
mod reducer;
mod store;

pub use group::Group;
pub use joint::{joint, jointly};
pub use reducer::Reducer;
pub use store::Store;
