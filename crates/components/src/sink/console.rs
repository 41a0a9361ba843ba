//! `sink.console`: progress of a run for people.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use pipe_core::{
    BuildContext, Component, Config, Instance, Kind, NodeId, Progress, Record, RecordValue, Source, Stateful, Summary,
    record::number, terminal,
};

use pipe_core::Sink;
use pipe_vocab::shown::shown_name;

/// Shows progress, metrics and a final summary.
///
/// On a terminal a progress bar with loss, learning rate, images per second and remaining time; when the output is piped,
/// plain lines at intervals; with `--log-format json` one JSON object per line. Added by default to pipelines without a
/// console sink.
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
        let mode = match (ctx.json_log(), std::io::stderr().is_terminal()) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Bars,
            (false, false) => Mode::Lines,
        };
        let interval = Duration::try_from_secs_f64(self.interval).unwrap_or(Duration::MAX);
        Ok(Instance::sink(Console { mode, interval, bars: BTreeMap::new(), speeds: BTreeMap::new() }))
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

/// The running sink. Lines go to standard error; standard output is for results.
struct Console {
    mode: Mode,
    interval: Duration,
    bars: BTreeMap<NodeId, ProgressBar>,
    speeds: BTreeMap<NodeId, Speed>,
}

/// An engine's speed, and when it was last reported.
struct Speed {
    epoch: u64,
    started: Instant,
    first_iteration: u64,
    samples: u64,
    last_line: Option<Instant>,
}

impl Speed {
    fn new(progress: &Progress) -> Speed {
        let first_iteration = progress.epoch_iteration.saturating_sub(1);
        Speed { epoch: progress.epoch, started: Instant::now(), first_iteration, samples: 0, last_line: None }
    }

    /// Samples per second since the end of the first iteration; `None` before there is anything to measure.
    fn per_second(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.samples as f64 / self.started.elapsed().as_secs_f64().max(1e-9))
    }

    /// Time to the end of the epoch at this speed.
    fn left(&self, progress: &Progress) -> Option<Duration> {
        let remaining = progress.epoch_length?.saturating_sub(progress.epoch_iteration);
        let done = progress.epoch_iteration.saturating_sub(self.first_iteration).max(1);
        Duration::try_from_secs_f64(self.started.elapsed().as_secs_f64() / done as f64 * remaining as f64).ok()
    }
}

impl Stateful for Console {}

impl Sink for Console {
    fn write(&mut self, record: &Record) -> Result<()> {
        let text = match &record.value {
            RecordValue::Scalar(value) if record.node.kind == Kind::Metric => {
                format!("epoch {}  {} = {}", record.epoch, record.tag, short(*value))
            }
            RecordValue::Text(text) => format!("{}\n{}", record.tag, text.trim_end()),
            RecordValue::Artifact(path) => format!("{} {}", record.tag, path.display()),
            _ => return Ok(()),
        };
        self.print(&text, || record.to_json());
        Ok(())
    }

    fn progress(&mut self, progress: &Progress) {
        let new = || Speed::new(progress);
        let begins = match self.speeds.get(&progress.engine) {
            Some(speed) => speed.epoch != progress.epoch || progress.epoch_iteration <= speed.first_iteration + 1,
            None => true,
        };
        let speed = self.speeds.entry(progress.engine.clone()).or_insert_with(new);
        if begins {
            *speed = new();
        } else {
            speed.samples += progress.samples;
        }
        let last = progress.epoch_length.is_some_and(|length| progress.epoch_iteration >= length);
        let per_second = speed.per_second();
        let values = values_text(progress, per_second);
        let left = speed.left(progress).filter(|_| !last);
        if self.mode == Mode::Bars && !last {
            self.draw(progress, values, left);
        } else if last || speed.last_line.unwrap_or(speed.started).elapsed() >= self.interval {
            speed.last_line = Some(Instant::now());
            if let Some(bar) = self.bars.remove(&progress.engine) {
                bar.finish_and_clear();
                terminal::bars().remove(&bar);
            }
            let ending = left.map(|left| format!(", {} left", HumanDuration(left))).unwrap_or_default();
            let text = format!("{}{values}{ending}", line_start(progress));
            self.print(&text, || progress_json(progress, per_second, left));
        }
    }

    fn finish(&mut self, summary: &Summary) -> Result<()> {
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.finish_and_clear();
            terminal::bars().remove(&bar);
        }
        self.print(&summary_text(summary), || summary_json(summary));
        Ok(())
    }
}

impl Console {
    /// Prints a message, for people or for tools.
    fn print(&self, text: &str, fields: impl FnOnce() -> Value) {
        if self.mode != Mode::Json {
            return terminal::line(text);
        }
        let mut all = Map::new();
        all.insert("message".into(), text.into());
        if let Value::Object(fields) = fields() {
            all.extend(fields);
        }
        terminal::json_line("INFO", all.into());
    }

    fn draw(&mut self, progress: &Progress, values: String, left: Option<Duration>) {
        let known = progress.epoch_length.is_some();
        let bar = self.bars.entry(progress.engine.clone()).or_insert_with(|| {
            let bar = terminal::bars().add(ProgressBar::new(progress.epoch_length.unwrap_or(0)));
            if let Ok(style) = ProgressStyle::with_template(template(terminal::width(), known)) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.set_prefix(epoch_text(progress));
            bar
        });
        let left = left.map(|left| format!("  {} left", clock(left))).unwrap_or_default();
        bar.set_message(values + &left);
        bar.set_position(progress.epoch_iteration);
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

fn progress_json(progress: &Progress, per_second: Option<f64>, left: Option<Duration>) -> Value {
    let values: Map<String, Value> =
        progress.values.iter().map(|(name, value)| (name.clone(), number(*value))).collect();
    json!({
        "kind": "progress", "engine": progress.engine.to_string(), "epoch": progress.epoch,
        "max_epochs": progress.max_epochs, "epoch_iteration": progress.epoch_iteration,
        "epoch_length": progress.epoch_length, "iteration": progress.iteration, "values": values,
        "images_per_second": per_second, "seconds_left": left.map(|left| left.as_secs_f64()),
    })
}

fn summary_json(summary: &Summary) -> Value {
    let values: Map<String, Value> =
        summary.values.iter().map(|(name, value)| (name.clone(), number(*value))).collect();
    json!({
        "kind": "summary", "status": summary.status, "run": summary.folder.display().to_string(),
        "seconds": summary.elapsed.as_secs_f64(), "values": values, "error": summary.error,
        "checkpoint": summary.checkpoint.as_ref().map(|path| path.display().to_string()),
    })
}

fn epoch_text(progress: &Progress) -> String {
    match (progress.outermost, progress.max_epochs) {
        (true, Some(max)) => format!("epoch {}/{max}", progress.epoch),
        (true, None) => format!("epoch {}", progress.epoch),
        (false, _) => progress.engine.name.to_string(),
    }
}

fn line_start(progress: &Progress) -> String {
    let of = progress.epoch_length.map(|length| format!("/{length}")).unwrap_or_default();
    format!("{}  {}{of}  ", epoch_text(progress), progress.epoch_iteration)
}

fn values_text(progress: &Progress, per_second: Option<f64>) -> String {
    let values = progress.values.iter().map(|(name, value)| format!("{name} {}", short(*value)));
    let speed = per_second.map(|speed| match speed >= 100.0 {
        true => format!("{speed:.0} img/s"),
        false => format!("{speed:.1} img/s"),
    });
    shown_name(&values.chain(speed).collect::<Vec<_>>().join("  ")).into_owned()
}

/// A number with few digits: 0.0123, 12.3, 1.2e-7.
fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        format!("{value}")
    } else if !(1e-4..1e6).contains(&size) {
        format!("{value:.2e}")
    } else if size >= 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.4}")
    }
}

fn summary_text(summary: &Summary) -> String {
    let mut lines = vec![format!("{} after {}", summary.status, HumanDuration(summary.elapsed))];
    let metrics: Vec<&(String, f64)> = summary.values.iter().filter(|(name, _)| name.starts_with("metric.")).collect();
    let width = metrics.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    lines.extend(metrics.iter().map(|(name, value)| format!("  {name:width$}  {}", short(*value))));
    lines.push(format!("  run          {}", summary.folder.display()));
    if let Some(checkpoint) = &summary.checkpoint {
        lines.push(format!("  checkpoint   {}", checkpoint.display()));
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
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(short(0.0123), "0.0123");
        assert_eq!(short(0.00001234), "1.23e-5");
        assert_eq!(short(123.456), "123.5");
        assert_eq!(short(f64::NAN), "NaN");
    }

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
        let summary = Summary {
            status: "interrupted".into(),
            folder: "runs/a".into(),
            elapsed: Duration::from_secs(75),
            values: vec![("metric.accuracy:accuracy".into(), 0.975), ("engine.trainer:loss".into(), 0.1)],
            checkpoint: Some("runs/a/checkpoints/step_000010".into()),
            error: None,
        };
        assert_eq!(
            summary_text(&summary),
            "interrupted after 75 seconds\n  metric.accuracy:accuracy  0.9750\n  run          runs/a\n  checkpoint   \
             runs/a/checkpoints/step_000010\n  resume with  --resume runs/a"
        );
    }
}
