//! Weights on disk: reading `.safetensors` and `.pth`, writing `.safetensors`.
//!
//! - [`Weights`]: what a file holds;
//! - [`read()`] tells the formats apart by their first bytes, not by the file's name;
//! - [`safetensors`]: the format written here, atomically;
//! - [`pth`]: what `torch.save` wrote, of today (a zip archive) and of before PyTorch 1.6;
//! - [`pickle`]: the data-only subset of Python's pickle those contain. Nothing in a file is ever executed;
//! - [`torchvision`]: the weights that torchvision publishes, by name; [`download`]: how they come here.

pub mod download;
pub mod pickle;
pub mod pth;
mod read;
pub mod safetensors;
pub mod torchvision;
mod types;

pub use read::read;
pub use safetensors::write;
pub use types::{CLASSES, Weights};
