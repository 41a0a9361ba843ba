//! Engines: what one iteration does. The loop around it is [`pipe_core`].

mod buffers;
pub mod evaluate;
mod preflight;
mod together;
pub mod train;
mod waiting;
