//! Options of `sink.mlflow`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::{Duration, Secret, Source};

/// Sends the run to an MLflow server while it is at work: numbers, images, texts, the options, the pipeline, how it ended.
///
/// Training never waits for the server: a thread sends what the run's folder has, and what was missed is sent later, also when the run is
/// resumed. A resumed run goes on in the same MLflow run, unless records that the server has were cut off: MLflow keeps every
/// value of a step, so the MLflow run is then deleted (it can be restored) and all of it sent to a new one. See `docs/trackers.md`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlflowConfig {
    /// The server's address.
    pub url: String,
    /// The experiment, made where there is none; default the pipeline's name.
    #[serde(default)]
    pub experiment: Option<String>,
    /// The MLflow run's name; default the names of the pipeline and of the run's folder.
    #[serde(default)]
    pub name: Option<String>,
    /// Tags of the MLflow run.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// A token that the server wants: `"${env:MLFLOW_TRACKING_TOKEN}"`.
    #[serde(default)]
    pub token: Option<Secret>,
    /// With `password`, a user that the server knows.
    #[serde(default)]
    pub username: Option<String>,
    /// With `username`: `"${env:MLFLOW_TRACKING_PASSWORD}"`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Nodes whose records are sent; all when empty.
    #[serde(default)]
    pub inputs: Vec<Source>,
    /// Whether images are sent.
    #[serde(default = "crate::tracker::yes")]
    pub images: bool,
    /// Whether the files of the checkpoints that the run leaves are sent, and not their names only.
    #[serde(default)]
    pub checkpoints: bool,
    /// How long the end of the run waits for what is not sent yet.
    #[serde(default = "crate::tracker::patience")]
    pub timeout: Duration,
}
