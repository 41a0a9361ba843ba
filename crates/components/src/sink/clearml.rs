//! `sink.clearml`: a run on a ClearML server, or as an offline session that ClearML's SDK imports.

mod config;
mod offline;
mod server;
mod task;

use anyhow::Result;

use pipe_core::{BuildContext, Component, Config, Instance, Kind, Problems};

use crate::tracker::{self, Sender, Setting};

pub use config::ClearmlConfig;

impl Config for ClearmlConfig {
    const KIND: Kind = Kind::Sink;
    const TYPE: &'static str = "clearml";
    const EXAMPLE: &'static str = r#"
[sink.clearml]
type = "clearml"
api = "http://127.0.0.1:8008"
files = "http://127.0.0.1:8081"
access_key = "${env:CLEARML_API_ACCESS_KEY:-}"
secret_key = "${env:CLEARML_API_SECRET_KEY:-}"
project = "digits"
"#;

    fn check(&self, problems: &mut Problems) {
        tracker::check_address("api", &self.api, problems);
        tracker::check_address("files", &self.files, problems);
        if !self.offline && (self.access_key.is_none() || self.secret_key.is_none()) {
            problems.at(
                "access_key",
                "the server asks for `access_key` and `secret_key`",
                "write `access_key = \"${env:CLEARML_API_ACCESS_KEY}\"` and `secret_key = \"${env:CLEARML_API_SECRET_KEY}\"`, or `offline = true`",
            );
        }
    }
}

impl Component for ClearmlConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let setting = Setting::of(ctx, &self.inputs, self.timeout);
        Ok(Instance::sink(match self.offline {
            true => Sender::new(setting, offline::Session::new(self)),
            false => {
                let server = server::Clearml::new(&setting.node, self);
                Sender::new(setting, server)
            }
        }))
    }
}

pipe_core::register!(ClearmlConfig);
