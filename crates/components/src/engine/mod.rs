//! Engines: what one iteration does. The loop around it is [`pipe_core`].

mod buffers;
pub mod evaluate;
mod preflight;
pub mod train;
mod waiting;
