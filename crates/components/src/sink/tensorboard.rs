//! `sink.tensorboard`: event files for TensorBoard.

use std::collections::BTreeMap;
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
/// Where a measure is recorded both as `train/x` and as `val/x`, the page CUSTOM SCALARS shows the two on one chart.
///
/// A run that goes on writes a further file into the same folder, which tells TensorBoard to forget what came after the
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
        Ok(Instance::sink(TensorBoard {
            dir,
            writer: None,
            resumed_at: None,
            last_step: 0,
            hparams: false,
            seen: BTreeMap::new(),
        }))
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
    /// Measures, and whether they were seen in training and in validation.
    seen: BTreeMap<String, [bool; 2]>,
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

impl TensorBoard {
    /// Puts training and validation of a measure on one chart, once both have been seen.
    fn pair(&mut self, tag: &str) -> Result<()> {
        let Some((part, measure)) = tag.split_once('/') else { return Ok(()) };
        let Some(which) = PARTS.iter().position(|name| *name == part) else { return Ok(()) };
        let seen = self.seen.entry(measure.to_owned()).or_default();
        if std::mem::replace(&mut seen[which], true) || *seen != [true, true] {
            return Ok(());
        }
        let paired = self.seen.iter().filter(|(_, seen)| **seen == [true, true]).map(|(measure, _)| measure);
        let charts: Vec<(String, [String; 2])> =
            paired.map(|measure| (measure.clone(), PARTS.map(|part| format!("{part}/{measure}")))).collect();
        let tags: Vec<[&str; 2]> = charts.iter().map(|(_, [a, b])| [a.as_str(), b.as_str()]).collect();
        let charts: Vec<(&str, &[&str])> =
            charts.iter().zip(&tags).map(|((title, _), tags)| (title.as_str(), tags.as_slice())).collect();
        self.writer()?.layout("train and val", &charts)
    }
}

/// What the tags of training and of validation begin with.
const PARTS: [&str; 2] = ["train", "val"];

impl Sink for TensorBoard {
    fn write(&mut self, record: &Record) -> Result<()> {
        let (tag, step, time) = (record.tag.as_str(), record.step as i64, record.time);
        self.last_step = self.last_step.max(step);
        if let RecordValue::Scalar(_) = record.value {
            self.pair(tag)?;
        }
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
