//! `sink.mlflow`: a run on an MLflow server.

mod names;
mod server;

use std::collections::BTreeMap;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::{BuildContext, Component, Config, Duration, Instance, Kind, Problems, Secret, Source};

use crate::tracker::{self, Sender, Setting};

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
    #[serde(default = "yes")]
    pub images: bool,
    /// Whether the files of the checkpoints that the run leaves are sent, and not their names only.
    #[serde(default)]
    pub checkpoints: bool,
    /// How long the end of the run waits for what is not sent yet.
    #[serde(default = "patience")]
    pub timeout: Duration,
}

fn yes() -> bool {
    true
}

fn patience() -> Duration {
    std::time::Duration::from_secs(30).into()
}

impl Config for MlflowConfig {
    const KIND: Kind = Kind::Sink;
    const TYPE: &'static str = "mlflow";
    const EXAMPLE: &'static str = r#"
[sink.mlflow]
type = "mlflow"
url = "http://127.0.0.1:5000"
experiment = "digits"
token = "${env:MLFLOW_TRACKING_TOKEN:-}"
"#;

    fn check(&self, problems: &mut Problems) {
        tracker::check_address("url", &self.url, problems);
        if self.username.is_some() != self.password.is_some() {
            problems.at("username", "`username` and `password` belong together", "give both, or neither");
        }
    }
}

impl Component for MlflowConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let setting = Setting {
            node: ctx.node.to_string(),
            folder: ctx.folder().to_owned(),
            inputs: self.inputs.iter().map(|Source(node)| node.to_string()).collect(),
            patience: self.timeout.get(),
        };
        let server = server::Mlflow::new(&setting.node, self);
        Ok(Instance::sink(Sender::new(setting, server)))
    }
}

pipe_core::register!(MlflowConfig);
