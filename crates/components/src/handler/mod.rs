//! Handlers: called on events.
//!
//! - [`pictures`]: helpers of the handlers that draw images
//! - [`retention`]: which checkpoints to keep

pub mod checkpoint;
pub mod debug_images;
pub mod early_stopping;
pub mod ema;
pub mod gradients_histogram;
mod histogram;
pub mod hparams;
pub mod optimizer_settings;
pub mod pictures;
pub mod process;
pub mod profiler;
pub mod retention;
pub mod sample_images;
pub mod system_stats;
pub mod terminate_on_nan;
pub mod time_limit;
pub mod unfreeze;
pub mod weights_histogram;
