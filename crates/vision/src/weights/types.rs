//! What a file of weights holds.

use std::collections::BTreeMap;

use crate::nn::StateDict;

/// The key, in the metadata, of the classes that a model tells apart: a JSON object of names by label.
pub const CLASSES: &str = "classes";

/// The weights of one file.
#[derive(Debug)]
pub struct Weights {
    /// Tensors by name, on the CPU.
    pub tensors: StateDict,
    /// What the file says of itself: a safetensors file's `__metadata__`, empty for a `.pth`; of torchvision's files also the
    /// [`CLASSES`].
    pub metadata: BTreeMap<String, String>,
    /// The key of a `.pth` checkpoint under which the weights lay (`model`, …), if it was not a bare state dict.
    pub found_under: Option<String>,
}
