//! `sink.console`: progress of a run for people.

mod pace;
pub mod report;
mod table;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use pace::Pace;
use pipe_core::record::{number, short};
use pipe_core::{
    BuildContext, Component, Config, Evaluation, Instance, Kind, NodeId, Progress, Record, RecordValue, Source,
    Stateful, Summary, ValueRef, terminal,
};

use pipe_core::Sink;
use pipe_vocab::shown::shown_name;

/// Shows progress, metrics and a final summary.
///
/// On standard output a line for each epoch, with the mean of the loss over it, and one for each evaluation: the headline values of
/// its metrics and the best so far of those that a checkpoint handler monitors. At the end, once, the tables (COCO's, confusion
/// matrices), the best checkpoint and where everything is. On standard error what goes on now: on a terminal a progress bar with loss,
/// learning rate, images per second and the time left of the epoch and of the run; elsewhere plain lines at intervals. With
/// `--log-format json` every record is a JSON object on standard error. Added by default to pipelines without a console sink.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Nodes whose records are shown; all when empty.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub inputs: Vec<Source>,
    /// Seconds between plain lines when the output is not a terminal.
    #[schemars(extend("x-reload" = "hot"), range(min = 0))]
    #[serde(default = "ten")]
    pub interval: f64,
}

fn ten() -> f64 {
    10.0
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        ConsoleConfig { inputs: Vec::new(), interval: ten() }
    }
}

impl Config for ConsoleConfig {
    const KIND: Kind = Kind::Sink;
    const TYPE: &'static str = "console";
    const EXAMPLE: &'static str = r#"
[sink.console]
type = "console"
interval = 30
"#;
}

impl Component for ConsoleConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let mode = match (ctx.json_log(), terminal::is_live()) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Bars,
            (false, false) => Mode::Lines,
        };
        let interval = Duration::try_from_secs_f64(self.interval).unwrap_or(Duration::MAX);
        Ok(Instance::sink(Console {
            mode,
            interval,
            bars: BTreeMap::new(),
            paces: BTreeMap::new(),
            outermost: None,
            batches: BTreeMap::new(),
            texts: Vec::new(),
            computed: BTreeMap::new(),
        }))
    }
}

pipe_core::register!(ConsoleConfig);

/// The output style of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Progress bars, with log lines above them.
    Bars,
    /// Periodic lines.
    Lines,
    /// Periodic lines of JSON.
    Json,
}

/// The running sink. What was measured goes to standard output, what goes on to standard error.
struct Console {
    mode: Mode,
    interval: Duration,
    bars: BTreeMap<NodeId, ProgressBar>,
    paces: BTreeMap<NodeId, Pace>,
    /// Where the outermost engine is.
    outermost: Option<Place>,
    /// How many batches each engine has done of those of its epoch.
    batches: BTreeMap<NodeId, String>,
    /// The last text of each metric, for the end.
    texts: Vec<(NodeId, String)>,
    /// Metrics that events compute, perhaps after each iteration: when they were told last, and what is yet to be told.
    computed: BTreeMap<NodeId, (Instant, Option<String>)>,
}

/// An epoch, and whether there is more of it.
struct Place {
    epoch: u64,
    text: String,
    inside: bool,
}

impl Stateful for Console {}

impl Sink for Console {
    fn write(&mut self, record: &Record) -> Result<()> {
        let of_metric = record.node.kind == Kind::Metric;
        if self.mode == Mode::Json {
            let text = match &record.value {
                RecordValue::Scalar(value) if of_metric => {
                    format!("epoch {}  {} = {}", record.epoch, record.tag, short(*value))
                }
                RecordValue::Text(text) => format!("{}\n{}", record.tag, text.trim_end()),
                RecordValue::Artifact(path) => format!("{} {}", record.tag, path.display()),
                _ => return Ok(()),
            };
            json_line(&text, record.to_json());
            return Ok(());
        }
        match &record.value {
            RecordValue::Text(text) if of_metric => {
                self.texts.retain(|(metric, _)| *metric != record.node);
                self.texts.push((record.node.clone(), text.clone()));
            }
            RecordValue::Text(text) => terminal::line(&format!("{}\n{}", record.tag, table::laid_out(text))),
            RecordValue::Artifact(path) => terminal::line(&format!("{} {}", record.tag, path.display())),
            _ => {}
        }
        Ok(())
    }

    fn evaluated(&mut self, evaluation: &Evaluation) {
        if self.mode == Mode::Json {
            return;
        }
        let text = format!("{}{}", self.heading(evaluation), report::line(evaluation));
        let Some(metric) = evaluation.values.first().map(|(value, _)| &value.node) else { return };
        if evaluation.engine.is_some() {
            return terminal::result(&text);
        }
        let now = Instant::now();
        match self.computed.get_mut(metric) {
            Some((told, held)) if told.elapsed() < self.interval => *held = Some(text),
            _ => {
                self.computed.insert(metric.clone(), (now, None));
                terminal::result(&text);
            }
        }
    }

    fn progress(&mut self, progress: &Progress) {
        let last = Pace::length(progress).is_some_and(|length| progress.epoch_iteration >= length);
        let pace = self.paces.entry(progress.engine.clone()).or_insert_with(|| Pace::new(progress));
        pace.note(progress);
        let values = values_text(&pace.values(progress), pace.per_second());
        let left = pace.left(progress).filter(|_| !last);
        let left_in_all = pace.left_in_all(progress).filter(|_| progress.outermost && progress.max_epochs != Some(1));
        let (due, elapsed) = (pace.told().elapsed() >= self.interval, pace.elapsed());
        let seconds_left = (left, left_in_all);
        if let Some(length) = Pace::length(progress) {
            self.batches.insert(progress.engine.clone(), format!("{}/{length}", progress.epoch_iteration));
        }
        if last || due {
            pace.last_line = Some(Instant::now());
        }
        if counts_epochs(progress) {
            self.enter(progress, last);
        }
        match self.mode {
            Mode::Json if last || due => {
                let pace = &self.paces[&progress.engine];
                json_line(
                    &format!("{}{values}{}", line_start(progress), left_text(seconds_left)),
                    progress_json(progress, pace, left),
                );
            }
            Mode::Json => {}
            _ if last => {
                self.clear(&progress.engine);
                // An evaluation is told by its metrics.
                if !progress.values.is_empty() {
                    let engine = &progress.engine.name;
                    let heading = if progress.outermost {
                        format!("{}  {engine}", epoch_text(progress))
                    } else {
                        engine.to_string()
                    };
                    terminal::result(&format!("{heading}  {values}  {}", clock(elapsed)));
                }
            }
            Mode::Bars => self.draw(progress, values + &left_text(seconds_left)),
            Mode::Lines if due => {
                terminal::line(&format!("{}{values}{}", line_start(progress), left_text(seconds_left)))
            }
            Mode::Lines => {}
        }
    }

    fn finish(&mut self, summary: &Summary) -> Result<()> {
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.finish_and_clear();
            terminal::bars().remove(&bar);
        }
        self.tell_held();
        match self.mode {
            Mode::Json => json_line(&summary_text(summary, &self.texts), summary_json(summary)),
            _ => terminal::result(&summary_text(summary, &self.texts)),
        }
        Ok(())
    }
}

impl Console {
    /// Notes where the outermost engine is; a new epoch tells what is yet to be told of the one before.
    fn enter(&mut self, progress: &Progress, last: bool) {
        if self.outermost.as_ref().is_some_and(|place| place.epoch != progress.epoch) {
            self.tell_held();
        }
        self.outermost = Some(Place { epoch: progress.epoch, text: epoch_text(progress), inside: !last });
    }

    fn tell_held(&mut self) {
        for (told, held) in self.computed.values_mut() {
            if let Some(text) = held.take() {
                *told = Instant::now();
                terminal::result(&text);
            }
        }
    }

    /// Of which engine and when an evaluation is.
    fn heading(&self, evaluation: &Evaluation) -> String {
        let place = self.outermost.as_ref().filter(|place| place.epoch == evaluation.epoch);
        let mut text = place.map_or_else(|| format!("epoch {}", evaluation.epoch), |place| place.text.clone());
        if place.is_some_and(|place| place.inside) {
            text += &format!(", step {}", evaluation.step);
        }
        if let Some(engine) = &evaluation.engine {
            text += &format!("  {}", engine.name);
            text += &self.batches.get(engine).map(|batches| format!("  {batches}")).unwrap_or_default();
        }
        text
    }

    fn clear(&mut self, engine: &NodeId) {
        if let Some(bar) = self.bars.remove(engine) {
            bar.finish_and_clear();
            terminal::bars().remove(&bar);
        }
    }

    fn draw(&mut self, progress: &Progress, message: String) {
        let length = Pace::length(progress);
        let bar = self.bars.entry(progress.engine.clone()).or_insert_with(|| {
            let bar = terminal::bars().add(ProgressBar::new(length.unwrap_or(0)));
            if let Ok(style) = ProgressStyle::with_template(template(terminal::width(), length.is_some())) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar
        });
        bar.set_prefix(epoch_text(progress));
        bar.set_message(message);
        bar.set_position(progress.epoch_iteration);
    }
}

/// Prints a message for tools.
fn json_line(text: &str, fields: Value) {
    let mut all = Map::new();
    all.insert("message".into(), text.into());
    if let Value::Object(fields) = fields {
        all.extend(fields);
    }
    terminal::json_line("INFO", all.into());
}

/// The time left of the epoch and of the whole run.
fn left_text((epoch, all): (Option<Duration>, Option<Duration>)) -> String {
    match (epoch, all) {
        (Some(epoch), Some(all)) => format!("  {} left, run {}", clock(epoch), clock(all)),
        (Some(left), None) | (None, Some(left)) => format!("  {} left", clock(left)),
        (None, None) => String::new(),
    }
}

/// The template of a bar: in a narrow terminal numbers only, truncated at its edge.
fn template(width: usize, length_known: bool) -> &'static str {
    match (length_known, width) {
        (false, _) => "{prefix:.bold}  {pos}  {wide_msg}",
        (true, ..70) => "{prefix:.bold}  {pos}/{len}  {wide_msg}",
        (true, 70..100) => "{prefix:.bold}  {bar:12.cyan/dim}  {pos}/{len}  {wide_msg}",
        (true, _) => "{prefix:.bold}  {bar:24.cyan/dim}  {pos}/{len}  {wide_msg}",
    }
}

/// A duration as on a clock: 0:07, 12:34, 1:02:03.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn progress_json(progress: &Progress, pace: &Pace, left: Option<Duration>) -> Value {
    let object = |values: &[(String, f64)]| -> Map<String, Value> {
        values.iter().map(|(name, value)| (name.clone(), number(*value))).collect()
    };
    json!({
        "kind": "progress", "engine": progress.engine.to_string(), "epoch": progress.epoch,
        "max_epochs": progress.max_epochs, "epoch_iteration": progress.epoch_iteration,
        "epoch_length": progress.epoch_length, "iteration": progress.iteration, "values": object(&progress.values),
        "epoch_means": object(&pace.means()), "images_per_second": pace.per_second(),
        "seconds_left": left.map(|left| left.as_secs_f64()),
        "run_seconds_left": pace.left_in_all(progress).map(|left| left.as_secs_f64()),
    })
}

fn summary_json(summary: &Summary) -> Value {
    let values: Map<String, Value> =
        summary.values.iter().map(|(name, value)| (name.clone(), number(*value))).collect();
    json!({
        "kind": "summary", "status": summary.status, "run": summary.folder.display().to_string(),
        "seconds": summary.elapsed.as_secs_f64(), "values": values, "error": summary.error,
        "checkpoint": summary.checkpoint.as_ref().map(|path| path.display().to_string()), "best": summary.best,
    })
}

/// Whether it is the engine by whose epochs the run is told: not an evaluation that no engine runs, which has one alone.
fn counts_epochs(progress: &Progress) -> bool {
    progress.outermost && !progress.values.is_empty()
}

fn epoch_text(progress: &Progress) -> String {
    match (counts_epochs(progress), progress.max_epochs) {
        (true, Some(max)) => format!("epoch {}/{max}", progress.epoch),
        (true, None) => format!("epoch {}", progress.epoch),
        (false, _) => progress.engine.name.to_string(),
    }
}

fn line_start(progress: &Progress) -> String {
    let of = Pace::length(progress).map(|length| format!("/{length}")).unwrap_or_default();
    format!("{}  {}{of}  ", epoch_text(progress), progress.epoch_iteration)
}

fn values_text(values: &[(String, f64)], per_second: Option<f64>) -> String {
    let values = values.iter().map(|(name, value)| format!("{name} {}", short(*value)));
    let speed = per_second.map(|speed| match speed >= 100.0 {
        true => format!("{speed:.0} img/s"),
        false => format!("{speed:.1} img/s"),
    });
    shown_name(&values.chain(speed).collect::<Vec<_>>().join("  ")).into_owned()
}

fn summary_text(summary: &Summary, texts: &[(NodeId, String)]) -> String {
    let full = |(name, value): &(String, f64)| {
        let name: ValueRef = serde_json::from_value(name.as_str().into()).ok()?;
        Some((name, *value)).filter(|(name, _)| name.node.kind == Kind::Metric)
    };
    let values: Vec<(ValueRef, f64)> = summary.values.iter().filter_map(full).collect();
    let mut lines = vec![report::tables(&values, texts)];
    lines.retain(|tables| !tables.is_empty());
    lines.push(format!("{} after {}", summary.status, HumanDuration(summary.elapsed)));
    lines.push(format!("  run          {}", summary.folder.display()));
    for best in &summary.best {
        let (value, step) = (short(best.value), best.step);
        lines.push(format!("  best         {} {value} at step {step}: {}", best.monitor, best.path.display()));
    }
    if let Some(checkpoint) = &summary.checkpoint {
        let last = if summary.best.is_empty() { "checkpoint" } else { "last" };
        lines.push(format!("  {last:<10}   {}", checkpoint.display()));
    }
    let board = summary.folder.join("tensorboard");
    if board.exists() {
        lines.push(format!("  TensorBoard  tensorboard --logdir {}", board.display()));
    }
    if summary.status == "interrupted" {
        lines.push(format!("  resume with  --resume {}", summary.folder.display()));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use pipe_core::BestCheckpoint;

    use super::*;

    #[test]
    fn clocks_and_templates() {
        let clocks = [0.0, 6.2, 754.0, 3723.0].map(|seconds| clock(Duration::from_secs_f64(seconds)));
        assert_eq!(clocks, ["0:00", "0:07", "12:34", "1:02:03"]);
        for (width, known) in [(30, true), (80, true), (120, true), (80, false)] {
            assert!(ProgressStyle::with_template(template(width, known)).is_ok());
        }
    }

    #[test]
    fn the_summary_says_where_everything_is() {
        let monitor: ValueRef = serde_json::from_value("metric.accuracy:accuracy".into()).unwrap();
        let path = "runs/a/checkpoints/step_000005".into();
        let mut summary = Summary {
            status: "interrupted".into(),
            folder: "runs/a".into(),
            elapsed: Duration::from_secs(75),
            values: vec![("metric.accuracy:accuracy".into(), 0.975), ("engine.trainer:loss".into(), 0.1)],
            checkpoint: Some("runs/a/checkpoints/step_000010".into()),
            best: vec![BestCheckpoint { monitor, value: 0.98, step: 5, path }],
            error: None,
        };
        let with_best = summary_text(&summary, &[]);
        summary.best.clear();
        insta::assert_snapshot!(format!("{with_best}\n\n{}", summary_text(&summary, &[])));
    }
}
