//! `sink.console`: what a person reads while a run goes on.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::registry::{Component, Kind, NodeId, Source};
use crate::run::{BuildContext, Instance, Progress, Record, RecordValue, Stateful, Summary};

use super::Sink;

/// Shows progress, metrics and a summary to a person.
///
/// On a terminal a progress bar with loss, learning rate, images per second and the time left; where the output is piped,
/// plain lines at sensible intervals. Every pipeline without a console sink gets one of these.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Nodes whose records are shown; all when empty.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub inputs: Vec<Source>,
    /// Seconds between plain lines where the output is not a terminal.
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

impl Component for ConsoleConfig {
    const KIND: Kind = Kind::Sink;
    const TYPE: &'static str = "console";
    const EXAMPLE: &'static str = r#"
[sink.console]
type = "console"
interval = 30
"#;

    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let terminal = std::io::stderr().is_terminal();
        let interval = Duration::try_from_secs_f64(self.interval).unwrap_or(Duration::MAX);
        Ok(Instance::sink(Console { terminal, interval, bars: BTreeMap::new(), speeds: BTreeMap::new() }))
    }
}

crate::register!(ConsoleConfig);

/// The running sink. Lines go to standard error: standard output belongs to results.
struct Console {
    terminal: bool,
    interval: Duration,
    bars: BTreeMap<NodeId, ProgressBar>,
    speeds: BTreeMap<NodeId, Speed>,
}

/// How quickly an engine goes, and when it last said so.
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

    /// Samples a second since the first iteration's end; nothing before there is anything to measure.
    fn per_second(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.samples as f64 / self.started.elapsed().as_secs_f64().max(1e-9))
    }

    /// Time to the end of the epoch at this pace.
    fn left(&self, progress: &Progress) -> Option<Duration> {
        let remaining = progress.epoch_length?.saturating_sub(progress.epoch_iteration);
        let done = progress.epoch_iteration.saturating_sub(self.first_iteration).max(1);
        Duration::try_from_secs_f64(self.started.elapsed().as_secs_f64() / done as f64 * remaining as f64).ok()
    }
}

impl Stateful for Console {}

impl Sink for Console {
    fn write(&mut self, record: &Record) -> Result<()> {
        match &record.value {
            RecordValue::Scalar(value) if record.node.kind == Kind::Metric => {
                self.say(&format!("epoch {}  {} = {}", record.epoch, record.tag, short(*value)));
            }
            RecordValue::Text(text) => self.say(&format!("{}\n{}", record.tag, text.trim_end())),
            RecordValue::Artifact(path) => self.say(&format!("wrote {}", path.display())),
            _ => {}
        }
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
        let values = values_text(progress, speed.per_second());
        if self.terminal {
            self.draw(progress, &values, last);
        } else if last || speed.last_line.unwrap_or(speed.started).elapsed() >= self.interval {
            speed.last_line = Some(Instant::now());
            let left = speed.left(progress).filter(|_| !last).map(|left| format!(", {} left", HumanDuration(left)));
            let line = format!("{}{}", line_start(progress), values);
            self.say(&format!("{line}{}", left.unwrap_or_default()));
        }
    }

    fn finish(&mut self, summary: &Summary) -> Result<()> {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
        self.say(&summary_text(summary));
        Ok(())
    }
}

impl Console {
    /// A line above the bars, or a plain one.
    fn say(&self, text: &str) {
        match self.bars.values().find(|bar| !bar.is_finished()) {
            Some(bar) if self.terminal => bar.suspend(|| eprintln!("{text}")),
            _ => eprintln!("{text}"),
        }
    }

    fn draw(&mut self, progress: &Progress, values: &str, last: bool) {
        let bar = self.bars.entry(progress.engine.clone()).or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(progress.epoch_length, ProgressDrawTarget::stderr());
            let template = "{prefix} {bar:24} {pos}/{len} {msg} {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        if bar.is_finished() || bar.position() > progress.epoch_iteration {
            bar.reset();
        }
        if let Some(length) = progress.epoch_length {
            bar.set_length(length);
        }
        bar.set_prefix(epoch_text(progress));
        bar.set_message(values.to_owned());
        bar.set_position(progress.epoch_iteration);
        if last {
            bar.finish_and_clear();
            eprintln!("{}{}", line_start(progress), values);
        }
    }
}

fn epoch_text(progress: &Progress) -> String {
    match (progress.outermost, progress.max_epochs) {
        (true, Some(max)) => format!("epoch {}/{max}", progress.epoch),
        (true, None) => format!("epoch {}", progress.epoch),
        (false, _) => progress.engine.name.clone(),
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
    values.chain(speed).collect::<Vec<_>>().join("  ")
}

/// A number in few digits: 0.0123, 12.3, 1.2e-7.
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
    lines.push(format!("  run         {}", summary.folder.display()));
    if let Some(checkpoint) = &summary.checkpoint {
        lines.push(format!("  checkpoint  {}", checkpoint.display()));
    }
    let board = summary.folder.join("tensorboard");
    if board.exists() {
        lines.push(format!("  charts      tensorboard --logdir {}", board.display()));
    }
    if summary.status == "interrupted" {
        lines.push(format!("  go on with  --resume {}", summary.folder.display()));
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
            "interrupted after 75 seconds\n  metric.accuracy:accuracy  0.9750\n  run         runs/a\n  checkpoint  \
             runs/a/checkpoints/step_000010\n  go on with  --resume runs/a"
        );
    }
}
