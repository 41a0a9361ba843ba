//! `sink.tensorboard`: event files for TensorBoard.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::PathBuf;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scene::{Job, Painted, Painter};
use pipe_core::{
    BuildContext, Component, Config, Instance, Kind, PathValue, Record, RecordValue, Source, State, Stateful, Summary,
};
use pipe_draw::RgbImage;
use pipe_tensorboard::{EventWriter, HParam, SessionStatus};

use pipe_core::Sink;

/// Writes TensorBoard event files: scalars, images, text, histograms, precision-recall curves, hyperparameters.
///
/// Where a measure is recorded both as `train/x` and as `val/x`, the page CUSTOM SCALARS shows the two on one chart.
///
/// A resumed run cuts off the events behind the checkpoint, and writes another file into the same folder, which makes a
/// TensorBoard that has read them drop them.
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
        let own = ctx.is_own(&dir);
        Ok(Instance::sink(TensorBoard {
            dir,
            own,
            writer: None,
            resumed: false,
            cut: own && ctx.begins(),
            saved: Saved::default(),
            painter: None,
        }))
    }
}

pipe_core::register!(TensorBoardConfig);

/// The running sink. The file is created at the first record, when it is known whether the run was resumed from a checkpoint.
struct TensorBoard {
    dir: PathBuf,
    /// Whether the folder is the run's own, so that no other run writes there.
    own: bool,
    writer: Option<EventWriter>,
    /// Whether the run goes on from a checkpoint, and nothing has been written since.
    resumed: bool,
    /// Whether events of a former life are to be cut off before anything is written.
    cut: bool,
    saved: Saved,
    /// Draws images, from the first one on.
    painter: Option<Painter>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Saved {
    step: i64,
    /// Bytes of each event file of the run.
    files: BTreeMap<String, u64>,
    /// Whether hyperparameters were written.
    hparams: bool,
    /// Measures, and whether they were seen in training and in validation.
    seen: BTreeMap<String, [bool; 2]>,
}

impl Stateful for TensorBoard {
    fn state(&self) -> Result<State> {
        let mut saved = self.saved.clone();
        if let Some(writer) = &self.writer {
            let name = writer.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            saved.files.insert(name, writer.synced_length()?);
        }
        State::of(&saved)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.saved = state.to().context("the saved state of the event files")?;
        (self.resumed, self.cut) = (true, true);
        Ok(())
    }
}

impl TensorBoard {
    fn writer(&mut self) -> Result<&mut EventWriter> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                if std::mem::take(&mut self.cut) {
                    self.cut_files()?;
                }
                match std::mem::take(&mut self.resumed) {
                    true => EventWriter::create_resumed(&self.dir, self.saved.step + 1)?,
                    false => EventWriter::create(&self.dir, None)?,
                }
            }
        };
        Ok(self.writer.insert(writer))
    }

    /// Cuts off the events behind the checkpoint: they belong to the abandoned continuation. Not before something is written, so
    /// that a run that has nothing left to do keeps all of its events.
    fn cut_files(&self) -> Result<()> {
        for path in std::fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let cut = match self.saved.files.get(&name) {
                Some(length) if path.metadata().is_ok_and(|data| data.len() > *length) => {
                    OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(*length))
                }
                None if self.own && name.starts_with("events.out.tfevents.") => std::fs::remove_file(&path),
                _ => Ok(()),
            };
            cut.with_context(|| format!("cannot cut off the events behind the checkpoint in {}", path.display()))?;
        }
        Ok(())
    }
}

impl TensorBoard {
    /// Has an image drawn beside the training.
    fn draw(&mut self, job: Job) -> Result<()> {
        let painter = match &mut self.painter {
            Some(painter) => painter,
            none => none.insert(Painter::start()?),
        };
        painter.add(job)
    }

    /// Writes what is drawn by now, or all that was to be drawn.
    fn painted(&mut self, all: bool) -> Result<()> {
        let Some(painter) = &mut self.painter else { return Ok(()) };
        for Painted { tag, step, time, size: [height, width], png } in painter.take(all)? {
            self.writer()?.image_png(&tag, step, time, height, width, &png)?;
        }
        Ok(())
    }

    /// Puts training and validation of a measure on one chart, once both have been seen.
    fn pair(&mut self, tag: &str) -> Result<()> {
        let Some((part, measure)) = tag.split_once('/') else { return Ok(()) };
        let Some(which) = PARTS.iter().position(|name| *name == part) else { return Ok(()) };
        let seen = self.saved.seen.entry(measure.to_owned()).or_default();
        if std::mem::replace(&mut seen[which], true) || *seen != [true, true] {
            return Ok(());
        }
        let paired = self.saved.seen.iter().filter(|(_, seen)| **seen == [true, true]).map(|(measure, _)| measure);
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
        self.saved.step = self.saved.step.max(step);
        if let RecordValue::Scalar(_) = record.value {
            self.pair(tag)?;
        }
        self.painted(false)?;
        let writer = self.writer()?;
        match &record.value {
            RecordValue::Scalar(value) => writer.scalar(tag, step, time, *value),
            RecordValue::Text(text) => writer.text(tag, step, time, text),
            RecordValue::Histogram(values) => writer.histogram(tag, step, time, values).map(|_| ()),
            RecordValue::PrCurve { true_positives, false_positives, positives } => {
                writer.pr_curve(tag, step, time, [true_positives, false_positives], *positives)
            }
            RecordValue::Image { height, width, rgb, objects } => {
                let image = RgbImage::from_data(*height, *width, rgb.clone())?;
                self.draw(Job { tag: tag.to_owned(), step, time, image, objects: objects.clone() })
            }
            RecordValue::HParams { settings, metrics } => {
                let settings: Vec<(&str, HParam)> =
                    settings.iter().map(|(name, value)| (name.as_str(), hparam(value))).collect();
                let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
                writer.hparams(&settings, &metrics)?;
                self.saved.hparams = true;
                Ok(())
            }
            RecordValue::Artifact(_) | RecordValue::Confusion { .. } => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.painted(true)?;
        self.writer.as_mut().map_or(Ok(()), EventWriter::flush)
    }

    fn finish(&mut self, summary: &Summary) -> Result<()> {
        let status = if summary.status == "failed" { SessionStatus::Failure } else { SessionStatus::Success };
        if self.saved.hparams
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
