//! `sink.json_lines`: one JSON object per record.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::{BuildContext, Component, Config, Instance, Kind, PathValue, Record, Source, Stateful};

use pipe_core::Sink;

/// Writes one JSON object per record to a file: `kind, tag, value, step, epoch, node, time`.
///
/// The run's folder always contains such a file of all records (`records.jsonl`); this sink writes an additional one, or one
/// of selected nodes. Records are appended to an existing file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonLinesConfig {
    /// Path of the file.
    #[schemars(extend("x-reload" = "hot"))]
    pub path: PathValue,
    /// Nodes whose records are written; all when empty.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub inputs: Vec<Source>,
}

impl Config for JsonLinesConfig {
    const KIND: Kind = Kind::Sink;
    const TYPE: &'static str = "json_lines";
    const EXAMPLE: &'static str = r#"
[sink.log]
type = "json_lines"
path = "training.jsonl"
"#;
}

impl Component for JsonLinesConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let path = PathBuf::from(self.path.as_str());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = BufWriter::new(file.with_context(|| format!("cannot write {}", path.display()))?);
        Ok(Instance::sink(JsonLines { path, file }))
    }
}

pipe_core::register!(JsonLinesConfig);

/// The running sink.
struct JsonLines {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Stateful for JsonLines {}

impl Sink for JsonLines {
    fn write(&mut self, record: &Record) -> Result<()> {
        writeln!(self.file, "{}", record.to_json()).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().with_context(|| format!("cannot write {}", self.path.display()))
    }
}
