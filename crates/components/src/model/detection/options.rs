//! The types of a detector's options.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of torchvision's two variants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// As in the paper.
    #[default]
    V1,
    /// The later one. R-CNNs: batch norm throughout, two convolutions in the RPN, four convolutions in the box head (Li et al. 2021).
    /// RetinaNet: batch norm in the backbone, group norm in the heads, GIoU as the loss of boxes (Zhang et al. 2020).
    V2,
}

/// Normalization of a backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Batch norm with frozen statistics, for small batches with pretrained weights.
    Frozen,
    /// Batch norm.
    Batch,
    /// Group norm with 32 groups, whatever the batch size.
    Group,
}

/// One length or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Lengths {
    /// One.
    One(#[schemars(range(min = 1))] i64),
    /// Several.
    Many(#[schemars(length(min = 1), inner(range(min = 1)))] Vec<i64>),
}

impl Lengths {
    /// As a list.
    pub fn to_vec(&self) -> Vec<i64> {
        match self {
            Lengths::One(length) => vec![*length],
            Lengths::Many(lengths) => lengths.clone(),
        }
    }
}
