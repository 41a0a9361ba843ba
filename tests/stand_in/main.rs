//! What the program does with an accelerator, on one made of host memory (`crates/stand-in`).

// Named here so that the linker keeps them: their components register themselves.
use {pipe_boundary as _, pipe_components as _, pipe_copy_paste as _};

mod case;
mod device;
mod models;
mod nodes;
mod preflight;
#[path = "../it/program.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod program;
mod ranks;
mod run;
mod streams;
mod traffic;
