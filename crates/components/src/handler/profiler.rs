//! `handler.profiler`: where the time goes.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Handler;
use pipe_core::timings::Spent;
use pipe_core::{
    BuildContext, Component, Config, EventContext, Instance, Kind, NodeId, RecordValue, RunContext, Stateful,
};

/// Profiles the time of a run and records a table when it is called, as printed by PyTorch-Ignite's `HandlersTimeProfiler`.
/// Call it on the trainer's `completed`; a run that ends before that records the table at its end.
///
/// Per engine: waiting for data, transfer to the device, forward, backward, optimizer step, metrics; and each target of
/// its events, with the event. An engine run by an event of another appears there as a target and has its own rows. The
/// share is of the whole run, from the creation of the node.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfilerConfig {
    /// Whether to synchronize with the GPU at each measurement. Without it, GPU time is attributed to the next wait; with it,
    /// the run is slower.
    #[serde(default = "yes")]
    #[schemars(extend("x-reload" = "hot"))]
    pub synchronize: bool,
    /// Also a trace of some iterations, `trace.json` in the run's folder: operators, kernels, copies and the parts of the iteration over
    /// time, for Perfetto or `chrome://tracing`. Those iterations are slower.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub trace: Option<TraceConfig>,
}

/// Which iterations of the outermost engine are traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceConfig {
    /// The first, counted from 1: the first few are not like those that follow.
    #[serde(default = "tenth")]
    #[schemars(range(min = 1))]
    pub first: u64,
    /// How many.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1000))]
    pub iterations: u64,
}

fn tenth() -> u64 {
    10
}

fn three() -> u64 {
    3
}

fn yes() -> bool {
    true
}

impl Config for ProfilerConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "profiler";
    const EXAMPLE: &'static str = r#"
[handler.profiler]
type = "profiler"

[[on]]
event = "engine.trainer:completed"
run = ["handler.profiler"]
"#;
}

impl Component for ProfilerConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let synchronize = (self.synchronize && pipe_native::is_accelerator(ctx.device)).then_some(ctx.device);
        let trace = self.trace;
        ctx.on_commit(move |run| {
            run.timings.enable(synchronize);
            if let Some(TraceConfig { first, iterations }) = trace {
                run.timings.trace(first..=first.saturating_add(iterations - 1), run.folder.path().join("trace.json"));
            }
        });
        Ok(Instance::handler(Profiler { node: ctx.node.clone(), started: Instant::now(), called: false }))
    }
}

pipe_core::register!(ProfilerConfig);

/// The running handler.
struct Profiler {
    node: NodeId,
    started: Instant,
    called: bool,
}

impl Stateful for Profiler {}

impl Profiler {
    fn record(&self, run: &RunContext) -> Result<()> {
        let text = table(&run.timings.all(), self.started.elapsed());
        run.emit(&self.node, &*self.node.name, RecordValue::Text(text))
    }
}

impl Handler for Profiler {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        self.called = true;
        self.record(ctx.run)
    }

    fn finish(&mut self, run: &RunContext) -> Result<()> {
        run.timings.disable();
        run.timings.end_trace();
        if self.called { Ok(()) } else { self.record(run) }
    }
}

/// The table, as Markdown that is readable as plain text.
fn table(entries: &[(NodeId, String, Spent)], whole: Duration) -> String {
    let share = |time: Duration| 100.0 * time.as_secs_f64() / whole.as_secs_f64().max(1e-9);
    let mut rows: Vec<[String; 7]> = Vec::new();
    let mut engines: Vec<&NodeId> = entries.iter().map(|(engine, _, _)| engine).collect();
    engines.dedup();
    let mut seen = Vec::new();
    for engine in engines {
        if seen.contains(&engine) {
            continue;
        }
        seen.push(engine);
        for (_, what, spent) in entries.iter().filter(|(of, _, _)| of == engine) {
            let mean = spent.total / u32::try_from(spent.count.max(1)).unwrap_or(u32::MAX);
            rows.push([
                format!("{engine}: {what}"),
                spent.count.to_string(),
                seconds(spent.total),
                format!("{:.1} %", share(spent.total)),
                seconds(mean),
                seconds(spent.min),
                seconds(spent.max),
            ]);
        }
    }
    let titles = ["what", "times", "total", "share", "mean", "shortest", "longest"].map(str::to_owned);
    let mut width = titles.each_ref().map(String::len);
    for row in &rows {
        for (width, cell) in width.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let line = |text: &mut String, cells: &[String; 7]| {
        for (i, (cell, width)) in cells.iter().zip(width).enumerate() {
            // Writing into a string cannot fail.
            let _ = if i == 0 { write!(text, "| {cell:width$} ") } else { write!(text, "| {cell:>width$} ") };
        }
        text.push_str("|\n");
    };
    line(&mut text, &titles);
    for (i, width) in width.iter().enumerate() {
        let _ =
            if i == 0 { write!(text, "|:{}-", "-".repeat(*width)) } else { write!(text, "|-{}:", "-".repeat(*width)) };
    }
    text.push_str("|\n");
    for row in &rows {
        line(&mut text, row);
    }
    text
}

/// A duration with three digits and a suitable unit.
fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s >= 100.0 => format!("{s:.0} s"),
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.1} µs", s * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use pipe_run::testing::TestRun;

    #[test]
    fn times_are_counted_and_told() {
        let test = TestRun::new();
        let engine = "engine.trainer".parse().unwrap();
        assert_eq!(test.run.timings.measure(&engine, "before", || 1), 1);
        let handler = test.handler("handler.p", json!({ "type": "profiler" }));
        for milliseconds in [2, 4] {
            test.run.timings.note(&engine, "forward", Duration::from_millis(milliseconds));
        }
        assert_eq!(test.run.timings.measure(&engine, "backward", || 2), 2);
        handler.borrow_mut().finish(&test.run).unwrap();
        test.run.folder.flush_records().unwrap();
        let text = std::fs::read_to_string(test.run.folder.records_path()).unwrap();
        let forward = text.split("\\n").find(|line| line.contains("engine.trainer: forward")).unwrap();
        let cells: Vec<&str> = forward.split('|').map(str::trim).collect();
        assert_eq!(
            [cells[2], cells[3], cells[5], cells[6], cells[7]],
            ["2", "6.00 ms", "3.00 ms", "2.00 ms", "4.00 ms"]
        );
        assert!(text.contains("engine.trainer: backward") && !text.contains("before"), "{text}");
    }

    #[test]
    fn units_fit() {
        for (nanoseconds, text) in [(1_500, "1.5 µs"), (2_340_000, "2.34 ms"), (1_500_000_000, "1.50 s")] {
            assert_eq!(seconds(Duration::from_nanos(nanoseconds)), text);
        }
    }
}
