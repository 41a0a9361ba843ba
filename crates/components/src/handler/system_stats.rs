//! `handler.system_stats`: CPU, memory and GPU usage.

use std::time::Instant;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Device;

use pipe_core::Handler;
use pipe_core::{BuildContext, Component, Config, EventContext, Instance, Kind, NodeId, RunContext, Stateful};

const MIB: f64 = (1u64 << 20) as f64;

/// Logs CPU, memory and GPU usage, in percent and MiB.
///
/// `system/cpu_percent` (of one core, since the last call; 200 means two busy cores), `system/memory_mib` (the process's resident
/// set), `system/machine_memory_percent` (used, of the whole machine). On a GPU also `system/gpu_allocated_mib` and
/// `system/gpu_peak_mib` (allocated by libtorch, current and peak), `system/gpu_reserved_mib` (reserved by it) and
/// `system/gpu_memory_percent` (of the GPU, used by all processes).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemStatsConfig {}

impl Config for SystemStatsConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "system_stats";
    const EXAMPLE: &'static str = r#"
[handler.system]
type = "system_stats"

[[on]]
event = "engine.trainer:iteration_completed"
every = 100
run = ["handler.system"]
"#;
}

impl Component for SystemStatsConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::handler(SystemStats {
            node: ctx.node.clone(),
            last: processor_seconds().zip(Some(Instant::now())),
        }))
    }
}

pipe_core::register!(SystemStatsConfig);

/// The running handler.
struct SystemStats {
    node: NodeId,
    /// The CPU time that the process had used, and when.
    last: Option<(f64, Instant)>,
}

impl Stateful for SystemStats {}

impl Handler for SystemStats {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let now = processor_seconds().zip(Some(Instant::now()));
        if let (Some((used, at)), Some((before, then))) = (now, self.last) {
            let share = (used - before) / at.duration_since(then).as_secs_f64().max(1e-9);
            self.record(ctx.run, "cpu_percent", 100.0 * share.max(0.0))?;
        }
        self.last = now;
        let memory = pipe_native::memory::allocated(Device::Cpu).context("the process's memory")?;
        self.record(ctx.run, "memory_mib", memory as f64 / MIB)?;
        if let Some(percent) = machine_memory_percent(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()) {
            self.record(ctx.run, "machine_memory_percent", percent)?;
        }
        let device = ctx.run.device;
        if pipe_native::is_accelerator(device) {
            use pipe_native::memory;
            self.record(ctx.run, "gpu_allocated_mib", memory::allocated(device)? as f64 / MIB)?;
            self.record(ctx.run, "gpu_peak_mib", memory::max_allocated(device)? as f64 / MIB)?;
            self.record(ctx.run, "gpu_reserved_mib", memory::reserved(device)? as f64 / MIB)?;
            let (free, total) = memory::free_and_total(device)?;
            self.record(ctx.run, "gpu_memory_percent", 100.0 * (1.0 - free as f64 / total.max(1) as f64))?;
        }
        Ok(())
    }
}

impl SystemStats {
    fn record(&self, run: &RunContext, name: &str, value: f64) -> Result<()> {
        run.scalar(&self.node, format!("system/{name}"), value)
    }
}

/// CPU time of the process, all threads, in seconds; `None` where the system does not report it (proc(5), `stat`).
fn processor_seconds() -> Option<f64> {
    // Linux counts user and kernel time in hundredths of a second, on every architecture that Rust knows.
    const TICKS: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets, which may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

fn machine_memory_percent(text: &str) -> Option<f64> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some(100.0 * (1.0 - value("MemAvailable:")? / value("MemTotal:")?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use pipe_run::testing::TestRun;

    #[test]
    fn what_is_recorded_is_plausible() {
        let test = TestRun::new();
        let handler = test.handler("handler.s", json!({ "type": "system_stats" }));
        test.call(&handler, "iteration_completed", None).unwrap();
        test.run.folder.flush_records().unwrap();
        let text = std::fs::read_to_string(test.run.folder.records_path()).unwrap();
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let value = |tag: &str| records.iter().find(|record| record["tag"] == tag).unwrap()["value"].as_f64().unwrap();
        assert!(value("system/memory_mib") > 10.0);
        assert!((0.0..=100.0).contains(&value("system/machine_memory_percent")));
        assert!(value("system/cpu_percent") >= 0.0);
        assert!(!text.contains("gpu"), "on the CPU there is none");
    }

    #[test]
    fn the_machine_s_memory_is_read() {
        let text = "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    250 kB\n";
        assert_eq!(machine_memory_percent(text), Some(75.0));
        assert_eq!(machine_memory_percent("nothing"), None);
    }
}
