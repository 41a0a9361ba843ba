//! A run's folder as those see it who build no run: how it stands, and what it leaves to be looked at, beside `records.jsonl`, from which all
//! of that but the images could be made again.
//!
//! - [`standing`]: how a run stands, from `run.json`; [`lock`], [`heartbeat`]: one writer a folder; [`clock`]: the time
//! - [`history`](mod@history): what a run at work writes, with its thread; what is cut when it goes back, and copied for a fork
//! - [`scalars`]: the numbers, in `scalars/`: any part of a long curve in about as many reads as it has pixels
//! - [`media`]: everything else, in `media.jsonl` and `images/`; `recorder`: written by a thread
//! - [`options`]: its pipeline key by key
//! - [`point`]: one measured number
//! - [`requests`]: what a run is asked, and what it answers
//!
//! Readers hold nothing of the writer's: they read while it writes, and learn from [`scalars::Refresh`] when the run went back.

pub mod clock;
pub mod heartbeat;
pub mod history;
pub mod lock;
pub mod media;
pub mod options;
pub mod point;
mod recorder;
pub mod requests;
pub mod scalars;
pub mod standing;

pub use history::{History, Lengths};
pub use media::{Item, Media};
pub use point::Point;
pub use scalars::{Axis, Column, Curve, Refresh, Scalars, Span, View};
