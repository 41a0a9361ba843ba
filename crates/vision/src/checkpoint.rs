//! Loading weights into detectors, those torchvision published before it renamed its layers included.

use anyhow::Result;

use crate::nn::{LoadOptions, LoadReport, ParameterStore, StateDict};

/// The layers whose shape depends on the number of classes.
const PREDICTORS: [&str; 2] = ["roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits."];

/// Whether weights may be for another number of classes than the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    /// They must be for the same.
    Same,
    /// Where they are not, the predictors keep the values they have; the report names them under `misshapen`.
    MayDiffer,
}

/// The number of classes, background included, that a detector's weights are for.
pub fn num_classes(state: &StateDict) -> Option<i64> {
    state.get("roi_heads.box_predictor.cls_score.weight")?.size().first().copied()
}

/// Loads a detector's weights; everything but what `classes` lets differ must fit.
pub(super) fn load_detector(store: &ParameterStore, state: &StateDict, classes: Classes) -> Result<LoadReport> {
    let replaceable = match classes {
        Classes::Same => Vec::new(),
        Classes::MayDiffer => PREDICTORS.map(str::to_owned).to_vec(),
    };
    store.load_state_dict(&modern_names(state), &LoadOptions { replaceable, ..LoadOptions::default() })
}

/// Loads a classifier's weights into the backbone's body; its last layer, `fc`, has no place there.
pub(super) fn load_backbone(store: &ParameterStore, state: &StateDict) -> Result<LoadReport> {
    let body = state.iter().filter(|(name, _)| !name.starts_with("fc."));
    let body = body.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    let into = LoadOptions { into_prefix: "backbone.body.".to_owned(), ..LoadOptions::default() };
    store.load_state_dict(&body, &into)
}

/// The same tensors under today's names. torchvision renamed layers of the pyramid, the RPN and the mask head in 0.13;
/// its `COCO_V1` files still have the old names.
fn modern_names(state: &StateDict) -> StateDict {
    state.iter().map(|(name, tensor)| (modern_name(name), tensor.shallow_clone())).collect()
}

fn modern_name(name: &str) -> String {
    let renamed = || {
        if let Some(leaf) = name.strip_prefix("rpn.head.conv.").filter(|leaf| !leaf.contains('.')) {
            return Some(format!("rpn.head.conv.0.0.{leaf}"));
        }
        let (number, leaf) = name.strip_prefix("roi_heads.mask_head.mask_fcn")?.split_once('.')?;
        let number: usize = number.parse().ok()?;
        Some(format!("roi_heads.mask_head.{}.0.{leaf}", number.checked_sub(1)?))
    };
    let pyramid = || {
        let blocks = name.strip_prefix("backbone.fpn.")?;
        let (list, rest) = blocks.split_once('.')?;
        let (index, leaf) = rest.split_once('.').filter(|(_, leaf)| !leaf.contains('.'))?;
        list.ends_with("_blocks").then(|| format!("backbone.fpn.{list}.{index}.0.{leaf}"))
    };
    renamed().or_else(pyramid).unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_become_todays() {
        for (old, new) in [
            ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"),
            ("roi_heads.mask_head.mask_fcn4.bias", "roi_heads.mask_head.3.0.bias"),
            ("backbone.fpn.inner_blocks.2.weight", "backbone.fpn.inner_blocks.2.0.weight"),
            ("backbone.fpn.layer_blocks.0.bias", "backbone.fpn.layer_blocks.0.0.bias"),
        ] {
            assert_eq!(modern_name(old), new);
            assert_eq!(modern_name(new), new);
        }
        assert_eq!(modern_name("backbone.body.layer1.0.bn1.weight"), "backbone.body.layer1.0.bn1.weight");
    }
}
