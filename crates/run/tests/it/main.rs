//! The engine and its events, driven with data and processes of nothing.

mod faults;
mod filters;
mod ignite;
mod interrupt;
mod world;
