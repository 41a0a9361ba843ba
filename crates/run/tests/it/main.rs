//! The engine and its events, driven with data and processes of nothing.

mod faults;
mod filters;
mod interrupt;
mod world;
