//! Options of `sink.clearml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::{Duration, Secret, Source};

/// Sends the run to a ClearML server while it is at work: numbers, images, texts, the options, the pipeline, the checkpoints' names,
/// how it ended.
///
/// Training never waits for the server: a thread sends what the run's folder has, and what was missed is sent later, also when the run is
/// resumed. A resumed run goes on in the same task; where records that the server has were cut off, the task is reset and all of it sent
/// anew. With `offline = true` nothing is sent: `clearml.zip` in the run's folder is then what `Task.import_offline_session` takes. See `docs/trackers.md`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClearmlConfig {
    /// The address of the API server.
    #[serde(default = "api")]
    pub api: String,
    /// The address of the file server, which takes images.
    #[serde(default = "files")]
    pub files: String,
    /// `"${env:CLEARML_API_ACCESS_KEY}"`.
    #[serde(default)]
    pub access_key: Option<Secret>,
    /// `"${env:CLEARML_API_SECRET_KEY}"`.
    #[serde(default)]
    pub secret_key: Option<Secret>,
    /// The project, made where there is none; default the pipeline's name.
    #[serde(default)]
    pub project: Option<String>,
    /// The task's name; default the names of the pipeline and of the run's folder.
    #[serde(default)]
    pub name: Option<String>,
    /// The task's tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether an offline session is written instead.
    #[serde(default)]
    pub offline: bool,
    /// Nodes whose records are sent; all when empty.
    #[serde(default)]
    pub inputs: Vec<Source>,
    /// Whether images are sent.
    #[serde(default = "crate::tracker::yes")]
    pub images: bool,
    /// How long the end of the run waits for what is not sent yet.
    #[serde(default = "crate::tracker::patience")]
    pub timeout: Duration,
}

fn api() -> String {
    "https://api.clear.ml".into()
}

fn files() -> String {
    "https://files.clear.ml".into()
}
