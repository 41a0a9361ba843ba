//! A plugin for the tests: one component of each kind, and some that misbehave.

mod data;
mod learn;
mod watch;

pub use data::{Brighten, Ramp, Repeat};
pub use learn::{Harmonic, Line, Plain};
pub use watch::{Counter, Error, Lines};

pipe_plugin::export! { Brighten, Ramp, Repeat, Line, Plain, Harmonic, Error, Counter, Lines }
