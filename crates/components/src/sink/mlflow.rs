//! `sink.mlflow`: a run on an MLflow server.

mod config;
mod names;
mod server;

use anyhow::Result;

use pipe_core::{BuildContext, Component, Config, Instance, Kind, Problems};

use crate::tracker::{self, Sender, Setting};

pub use config::MlflowConfig;

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
        let setting = Setting::of(ctx, &self.inputs, self.timeout);
        let server = server::Mlflow::new(&setting.node, self);
        Ok(Instance::sink(Sender::new(setting, server)))
    }
}

pipe_core::register!(MlflowConfig);
