//! What is common about loading weights into detectors.

use anyhow::Result;

use crate::nn::{LoadOptions, LoadReport, ParameterStore, StateDict};

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
    let rows = |name: &str| state.get(name)?.size().first().copied();
    if let Some(classes) = rows("roi_heads.box_predictor.cls_score.weight") {
        return Some(classes);
    }
    // Heads of one stage: every anchor has a score of each class, and four offsets.
    let layers =
        [("cls_logits", "bbox_reg"), ("module_list.0", "module_list.0"), ("module_list.0.1", "module_list.0.1")];
    layers.iter().find_map(|(classes, boxes)| {
        let scores = rows(&format!("head.classification_head.{classes}.weight"))?;
        let offsets = rows(&format!("head.regression_head.{boxes}.weight"))?;
        (offsets >= 4).then(|| scores / (offsets / 4))
    })
}

/// The number of keypoints that a detector's weights are for.
pub fn num_keypoints(state: &StateDict) -> Option<i64> {
    state.get("roi_heads.keypoint_predictor.kps_score_lowres.weight")?.size().get(1).copied()
}

/// Where the layers of a network are that is a detector's backbone.
const BODY: &str = "backbone.body.";

/// Loads a classifier's weights into the backbone's body; a ResNet's last layer, `fc`, and a MobileNet's `classifier` have no place there.
pub(super) fn load_backbone(store: &ParameterStore, state: &StateDict) -> Result<LoadReport> {
    let body = state.iter().filter(|(name, _)| !name.starts_with("fc.") && !name.starts_with("classifier."));
    let name = |name: &str| format!("{BODY}{}", name.strip_prefix("features.").unwrap_or(name));
    let body = body.map(|(of, tensor)| (name(of), tensor.shallow_clone()));
    let body = with_layers_of(store, body.collect());
    let into = LoadOptions { into_prefix: BODY.to_owned(), strip_prefix: BODY.to_owned(), ..LoadOptions::default() };
    store.load_state_dict(&body, &into)
}

/// Weights without the layers of the backbone's body that a model has not: those behind the last whose map it takes.
pub(super) fn with_layers_of(store: &ParameterStore, mut state: StateDict) -> StateDict {
    let names = store.names();
    let layer = |name: &str| {
        let (layer, _) = name.strip_prefix(BODY)?.split_once('.')?;
        let counted = layer.strip_prefix("layer").unwrap_or(layer);
        counted.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("{BODY}{layer}."))
    };
    let lacks = |layer: &String| !names.iter().any(|name| name.starts_with(layer));
    state.retain(|name, _| !layer(name).as_ref().is_some_and(lacks));
    state
}
