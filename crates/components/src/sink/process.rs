//! `sink.process`: records for an external program.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use crate::child::{Child, ChildConfig};
use pipe_core::Sink;
use pipe_core::{
    BuildContext, Component, Config, Instance, Kind, Problems, Record, Source, Stateful, Summary, record::number,
};

/// Sends records to a child process, one JSON object per line: to post them or store them elsewhere, in any language.
///
/// The protocol is in `docs/child_processes.md`, an example in `examples/post_metrics.py`. The run never waits for a child that
/// is slow, hangs or dies, unless `when_full = "block"`. The child's output appears in the log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct ProcessSinkConfig {
    /// Nodes whose records are sent; all when empty.
    #[serde(default)]
    pub inputs: Vec<Source>,
    /// Kinds of records that are sent: `scalar`, `text`, `artifact`, `hparams`, `image`, `histogram` (for the last two, size and
    /// range only); all when empty.
    #[serde(default)]
    pub kinds: Vec<RecordKind>,
    /// The program and its limits.
    #[serde(flatten)]
    pub child: ChildConfig,
}

/// Kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum RecordKind {
    Scalar,
    Text,
    Artifact,
    HParams,
    Image,
    Histogram,
}

impl RecordKind {
    fn as_str(self) -> &'static str {
        match self {
            RecordKind::Scalar => "scalar",
            RecordKind::Text => "text",
            RecordKind::Artifact => "artifact",
            RecordKind::HParams => "hparams",
            RecordKind::Image => "image",
            RecordKind::Histogram => "histogram",
        }
    }
}

impl Config for ProcessSinkConfig {
    const KIND: Kind = Kind::Sink;
    const TYPE: &'static str = "process";
    const EXAMPLE: &'static str = r#"
[sink.post]
type = "process"
command = ["python3", "post_metrics.py", "http://127.0.0.1:8080/metrics"]
kinds = ["scalar"]
env = { API_TOKEN = "${env:API_TOKEN:-none}" }
queue = 1000
when_full = "drop"
timeout = "10s"
restart = { policy = "on_failure", max = 3, backoff = "1s" }
"#;

    fn check(&self, problems: &mut Problems) {
        self.child.check(problems);
    }
}

impl Component for ProcessSinkConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let child = Child::start(&ctx.node.to_string(), self.child, ctx.folder())?;
        Ok(Instance::sink(ProcessSink { child, kinds: self.kinds }))
    }
}

pipe_core::register!(ProcessSinkConfig);

/// The running sink.
struct ProcessSink {
    child: Child,
    kinds: Vec<RecordKind>,
}

impl Stateful for ProcessSink {}

impl Sink for ProcessSink {
    fn write(&mut self, record: &Record) -> Result<()> {
        let kind = record.value.kind();
        if !self.kinds.is_empty() && !self.kinds.iter().any(|wanted| wanted.as_str() == kind) {
            return Ok(());
        }
        let mut message = json!({ "type": "record" });
        if let (Some(message), serde_json::Value::Object(record)) = (message.as_object_mut(), record.to_json()) {
            message.extend(record);
        }
        self.child.send(&message)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self, summary: &Summary) -> Result<()> {
        self.child.finish(&last_message(summary))
    }
}

/// The line that reports the end of the run.
fn last_message(summary: &Summary) -> serde_json::Value {
    let values: Map<String, serde_json::Value> =
        summary.values.iter().map(|(name, value)| (name.clone(), number(*value))).collect();
    json!({
        "type": "finish", "status": summary.status, "seconds": summary.elapsed.as_secs_f64(), "values": values,
        "run": summary.folder.display().to_string(), "error": summary.error,
        "checkpoint": summary.checkpoint.as_ref().map(|path| path.display().to_string()),
    })
}
