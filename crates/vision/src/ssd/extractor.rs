//! What an SSD asks of its network.

use std::fmt::Debug;

use anyhow::Result;
use tch::Tensor;

use crate::nn::{LoadReport, ParameterStore, StateDict};

/// A network that gives feature maps of several sizes.
pub(super) trait Extractor: Debug {
    /// Channels of each map.
    fn channels(&self) -> Vec<i64>;

    /// Images `[N, 3, H, W]` → the maps, large first.
    fn forward(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>>;

    /// Loads a classifier's weights into what the two have in common.
    fn load(&self, store: &ParameterStore, state: &StateDict) -> Result<LoadReport>;
}
