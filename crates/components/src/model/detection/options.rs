//! The types of a detector's options, and what becomes of them.

use std::borrow::Cow;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use pipe_core::Problems;
use pipe_vision::nn::NormKind;
use pipe_vision::options::BoxHeadOptions;
use pipe_vision::{BackboneOptions, ResNetKind};

/// Groups of group norm, the usual number.
const NORM_GROUPS: i64 = 32;

/// A ResNet by torchvision's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backbone(pub ResNetKind);

impl Serialize for Backbone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Backbone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        ResNetKind::from_str(&name).map(Backbone).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Backbone {
    fn schema_name() -> Cow<'static, str> {
        "backbone".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ResNetKind::ALL.map(|(_, name)| name) })
    }
}

/// Which of torchvision's two variants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// As in the papers.
    #[default]
    V1,
    /// Batch norm throughout, two convolutions in the RPN, four convolutions in the box head (Li et al. 2021).
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
/// The backbone's options; `trained` when it starts from pretrained weights.
pub(in crate::model) fn backbone(
    kind: Backbone,
    trained: bool,
    returned: &[usize],
    layers: Option<usize>,
) -> BackboneOptions {
    let preset = if trained { BackboneOptions::pretrained(kind.0) } else { BackboneOptions::scratch(kind.0) };
    let trainable_layers = layers.unwrap_or(preset.trainable_layers);
    BackboneOptions { returned_layers: returned.to_vec(), trainable_layers, ..preset }
}

/// The requested normalization, otherwise that of the variant.
pub(in crate::model) fn norm(asked: Option<Norm>, eps: f64, preset: NormKind) -> NormKind {
    match (asked, preset) {
        (Some(Norm::Frozen), _) | (None, NormKind::Frozen { .. }) => NormKind::Frozen { eps },
        (Some(Norm::Batch), _) => NormKind::Batch,
        (Some(Norm::Group), _) => NormKind::Group { groups: NORM_GROUPS },
        (None, other) => other,
    }
}

/// The box head of the variant, with another width.
pub(in crate::model) fn box_head(preset: BoxHeadOptions, size: i64) -> BoxHeadOptions {
    match preset {
        BoxHeadOptions::TwoMlp { .. } => BoxHeadOptions::TwoMlp { representation_size: size },
        BoxHeadOptions::ConvFc { conv_layers, fc_layers, norm } => {
            BoxHeadOptions::ConvFc { conv_layers, fc_layers: vec![size; fc_layers.len()], norm }
        }
    }
}

/// FPN levels and anchor sizes match one to one.
pub(in crate::model) fn check_levels(returned: &[usize], anchors: &[Vec<f64>], problems: &mut Problems) {
    if !returned.is_sorted_by(|a, b| a < b) {
        problems.at(
            "returned_layers",
            "the layers must be in ascending order",
            "such as `returned_layers = [2, 3, 4]`",
        );
    }
    let levels = returned.len() + 1;
    if anchors.len() != levels {
        let message = format!("there are anchors for {} levels, but the FPN has {levels}", anchors.len());
        let help = "give one list for each of `returned_layers`, and one for the extra pooled level";
        problems.at("anchor_sizes", message, help);
    }
    if anchors.iter().any(|sizes| sizes.len() != anchors[0].len()) {
        problems.at("anchor_sizes", "every level needs the same number of sizes", "such as `[[16, 24], [32, 48], …]`");
    }
    if anchors.iter().any(|sizes| sizes.is_empty() || sizes.iter().any(|size| *size <= 0.0)) {
        problems.at("anchor_sizes", "every level needs at least one size above 0", "such as `[[32], [64], …]`");
    }
}
