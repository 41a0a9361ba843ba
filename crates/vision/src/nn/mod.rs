//! Layers and the store of their parameters, with PyTorch's names, order and initial values.
//!
//! - [`store`]: [`ParameterStore`], the ordered names → tensors of a model, and [`Scope`], a place in it;
//! - [`load`]: filling a store from a state dict, and the report of what fitted;
//! - [`init`]: `torch.nn.init`, drawing from torch's generator in torch's order;
//! - [`conv`], [`linear`], [`norm`]: layers; [`functional`]: what has no parameters.
//!
//! A model is built on the CPU and then moved ([`ParameterStore::to`]), so that one seed gives one set of
//! initial weights on every device: after `tch::manual_seed(s)` the same as PyTorch's after `torch.manual_seed(s)`.

pub mod conv;
pub mod functional;
pub mod init;
pub mod linear;
pub mod load;
pub mod norm;
pub mod store;

use indexmap::IndexMap;
use tch::Tensor;

pub use conv::{Conv2d, Conv2dOptions, ConvTranspose2d};
pub use linear::Linear;
pub use load::{LoadOptions, LoadReport};
pub use norm::{BatchNorm2d, FrozenBatchNorm2d, GroupNorm, Norm, NormKind};
pub use store::{ParameterStore, Scope};

/// Names → tensors in the order of PyTorch's `state_dict()`.
pub type StateDict = IndexMap<String, Tensor>;
