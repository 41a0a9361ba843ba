//! `sink.tensorboard`: event files for TensorBoard.

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use pipe_core::{
    BuildContext, Component, Config, Instance, Kind, PathValue, Record, RecordValue, Source, State, Stateful, Summary,
};
use pipe_draw::RgbImage;
use pipe_tensorboard::{EventWriter, HParam, SessionStatus};

use pipe_core::Sink;

/// Writes TensorBoard event files: scalars, images, text, histograms, hyperparameters.
///
/// A resumed run writes another file into the same folder, which makes TensorBoard discard the events after the
/// checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorBoardConfig {
    /// Log directory; default `tensorboard` in the run's folder.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub dir: Option<PathValue>,
    /// Nodes whose records are written; all when empty.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub inputs: Vec<Source>,
}

impl Config for TensorBoardConfig {
    const KIND: Kind = Kind::Sink;
    const TYPE: &'static str = "tensorboard";
    const EXAMPLE: &'static str = r#"
[sink.tensorboard]
type = "tensorboard"
"#;
}

impl Component for TensorBoardConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let dir = match &self.dir {
            Some(dir) => PathBuf::from(dir.as_str()),
            None => ctx.folder().join("tensorboard"),
        };
        Ok(Instance::sink(TensorBoard { dir, writer: None, resumed_at: None, last_step: 0, hparams: false }))
    }
}

pipe_core::register!(TensorBoardConfig);

/// The running sink. The file is created at the first record, when it is known whether the run was resumed from a checkpoint.
struct TensorBoard {
    dir: PathBuf,
    writer: Option<EventWriter>,
    /// The step of the checkpoint that the run was resumed from.
    resumed_at: Option<i64>,
    last_step: i64,
    hparams: bool,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    step: i64,
}

impl Stateful for TensorBoard {
    fn state(&self) -> Result<State> {
        State::of(&Saved { step: self.last_step })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        let Saved { step } = state.to()?;
        (self.resumed_at, self.last_step) = (Some(step), step);
        Ok(())
    }
}

impl TensorBoard {
    fn writer(&mut self) -> Result<&mut EventWriter> {
        let writer = match (self.writer.take(), self.resumed_at) {
            (Some(writer), _) => writer,
            // Events after the checkpoint belong to the abandoned continuation.
            (None, Some(step)) => EventWriter::create_resumed(&self.dir, step + 1)?,
            (None, None) => EventWriter::create(&self.dir, None)?,
        };
        Ok(self.writer.insert(writer))
    }
}

impl Sink for TensorBoard {
    fn write(&mut self, record: &Record) -> Result<()> {
        let (tag, step, time) = (record.tag.as_str(), record.step as i64, record.time);
        self.last_step = self.last_step.max(step);
        let writer = self.writer()?;
        match &record.value {
            RecordValue::Scalar(value) => writer.scalar(tag, step, time, *value),
            RecordValue::Text(text) => writer.text(tag, step, time, text),
            RecordValue::Histogram(values) => writer.histogram(tag, step, time, values).map(|_| ()),
            RecordValue::Image { height, width, rgb } => {
                let png = RgbImage::from_data(*height, *width, rgb.clone())?.encode_png()?;
                writer.image_png(tag, step, time, *height, *width, &png)
            }
            RecordValue::HParams { settings, metrics } => {
                let settings: Vec<(&str, HParam)> =
                    settings.iter().map(|(name, value)| (name.as_str(), hparam(value))).collect();
                let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
                writer.hparams(&settings, &metrics)?;
                self.hparams = true;
                Ok(())
            }
            RecordValue::Artifact(_) => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), EventWriter::flush)
    }

    fn finish(&mut self, summary: &Summary) -> Result<()> {
        let status = if summary.status == "failed" { SessionStatus::Failure } else { SessionStatus::Success };
        if self.hparams
            && let Some(writer) = &mut self.writer
        {
            writer.session_end(status)?;
        }
        self.flush()
    }
}

fn hparam(value: &Value) -> HParam {
    match value {
        Value::Bool(flag) => HParam::Bool(*flag),
        Value::Number(number) => HParam::Number(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => HParam::Text(text.clone()),
        other => HParam::Text(other.to_string()),
    }
}
