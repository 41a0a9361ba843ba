//! The files that options such as `weights` mean: paths, runs, and what torchvision publishes.

use std::path::PathBuf;

use anyhow::{Context, Result};
use pipe_core::checkpoints::found;
use pipe_core::{BuildContext, NodeId, PathValue, Problems};
use pipe_vision::nn::LoadReport;
use pipe_vision::weights::torchvision::{self, Named};
use pipe_vision::weights::{self, CLASSES, Weights, download};

/// The file that a value means: itself; of a run's folder its best checkpoint (see [`found::weights_file`]); of
/// `torchvision:NAME`, the file of that name, which is downloaded unless it is there.
///
/// # Errors
/// When there is none, it has no weights of this model, or cannot be had.
pub fn locate(value: &PathValue, model: &NodeId) -> Result<PathBuf> {
    let Some(name) = value.torchvision() else {
        let path = value.path().with_context(|| format!("there are no weights {:?}", value.as_str()))?;
        return found::weights_file(path, model);
    };
    let named = torchvision::find(name).map_err(anyhow::Error::msg)?;
    let mut tell = |line: String| tracing::info!("{model}: {line}");
    download::fetch(named.file, &download::Places::of_environment()?, &mut tell)
}

/// Reads the weights that a value means, and says from which file.
///
/// # Errors
/// Those of [`locate`]; a file that is no weights.
pub fn read(value: &PathValue, model: &NodeId) -> Result<(Weights, PathBuf)> {
    let file = locate(value, model)?;
    Ok((weights::read(&file)?, file))
}

/// Keeps which classes the weights are of, where all of them were loaded.
pub(super) fn remember_classes(weights: &Weights, report: &LoadReport, ctx: &mut BuildContext<'_>) {
    let classes = weights.metadata.get(CLASSES).and_then(|classes| serde_json::from_str(classes).ok());
    if let Some(classes) = classes.filter(|_| report.is_complete()) {
        ctx.trained_on(classes);
    }
}

/// Weights that torchvision publishes, by `torchvision:NAME` or by the name of their file.
pub(super) fn named(value: Option<&PathValue>) -> Option<&'static Named> {
    let value = value?;
    match value.torchvision() {
        Some(name) => torchvision::find(name).ok(),
        None => torchvision::of_file(value.path()?),
    }
}

/// Says what is wrong with `torchvision:NAME` before anything is downloaded. `unfit` says why weights are not for this model.
pub(super) fn check(
    option: &str,
    value: Option<&PathValue>,
    problems: &mut Problems,
    unfit: impl Fn(&Named) -> Option<String>,
) {
    let Some(name) = value.and_then(PathValue::torchvision) else { return };
    match torchvision::find(name) {
        Err(message) => {
            problems.at(option, message, "torchvision's names, such as `torchvision:resnet50.imagenet1k_v2`")
        }
        Ok(named) => {
            if let Some(help) = unfit(named) {
                problems.at(option, format!("`{}` is not for this model", named.model), help);
            }
        }
    }
}
