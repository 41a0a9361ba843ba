//! `sink.json_lines`: one JSON object per record.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::{BuildContext, Component, Config, Instance, Kind, PathValue, Record, Source, State, Stateful};

use pipe_core::Sink;

/// Writes one JSON object per record to a file: `kind, tag, value, step, epoch, node, time`.
///
/// The run's folder always contains such a file of all records (`records.jsonl`); this sink writes an additional one, or one
/// of selected nodes. Records are appended to an existing file; of a file in the run's
/// own folder, a resumed run first cuts off what is behind the checkpoint.
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
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let path = PathBuf::from(self.path.as_str());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let own = ctx.is_own(&path);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = BufWriter::new(file.with_context(|| format!("cannot write {}", path.display()))?);
        Ok(Instance::sink(JsonLines { own, path, file, behind: (own && ctx.begins()).then_some(0) }))
    }
}

pipe_core::register!(JsonLinesConfig);

/// The running sink.
struct JsonLines {
    path: PathBuf,
    file: BufWriter<File>,
    /// Whether it is in the run's folder, so that no other run writes it.
    own: bool,
    /// How much of the file belongs to this run so far, until something is written: up to the checkpoint from which it goes on.
    behind: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    path: PathBuf,
    bytes: u64,
}

impl Stateful for JsonLines {
    fn state(&self) -> Result<State> {
        let file = self.file.get_ref();
        let bytes = file.sync_data().and_then(|()| file.metadata());
        let bytes = bytes.with_context(|| format!("cannot write {}", self.path.display()))?.len();
        State::of(&Saved { path: self.path.clone(), bytes })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        let saved: Saved = state.to().context("the saved length of the file")?;
        self.behind = Some(saved.bytes).filter(|_| self.own && saved.path == self.path);
        Ok(())
    }
}

impl Sink for JsonLines {
    fn write(&mut self, record: &Record) -> Result<()> {
        if let Some(length) = self.behind.take() {
            let file = self.file.get_ref();
            let longer = |data: std::fs::Metadata| if data.len() > length { file.set_len(length) } else { Ok(()) };
            let cut = file.metadata().and_then(longer);
            cut.with_context(|| format!("cannot cut off what is behind the checkpoint in {}", self.path.display()))?;
        }
        writeln!(self.file, "{}", record.to_json()).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().with_context(|| format!("cannot write {}", self.path.display()))
    }
}
