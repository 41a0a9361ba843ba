//! The traits of the kinds of nodes, and the contexts of their methods.
//!
//! Those that plugins implement as well are of the crate `pipe-plugin`.

pub mod engine_state;
pub mod event;
pub mod handler;
pub mod loader;
pub mod optimizer;
pub mod process;
pub mod scheduler;
pub mod settings;
pub mod step;
