//! `run.json`: what a run is, and how it stands.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value, json};

use pipe_core::{RunContext, RunFolder, now, record};
use pipe_plan::Plan;
use pipe_vocab::Catalog;

use crate::options::RunOptions;
use crate::plugins;

/// `run.json` of a run at work.
pub struct Info {
    values: Map<String, Value>,
    started: Instant,
}

impl Info {
    /// Writes that the run has begun.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(
        folder: &RunFolder,
        plan: &Plan,
        catalog: &Catalog,
        options: &RunOptions,
        device: &str,
    ) -> Result<Info> {
        let values = start_info(folder, plan, catalog, options, device);
        folder.write_info(&values)?;
        Ok(Info { values, started: Instant::now() })
    }

    /// Writes how the run ended; a disk that is full must not hide the error itself.
    pub fn note(&self, run: &RunContext, status: &str, error: Option<String>) {
        let mut info = self.values.clone();
        info.insert("status".into(), json!(status));
        info.insert("ended".into(), json!(now()));
        info.insert("seconds".into(), json!(self.started.elapsed().as_secs_f64()));
        info.insert("error".into(), json!(error));
        info.insert("values".into(), run.values().into_iter().map(|(k, v)| (k, record::number(v))).collect());
        if let Err(problem) = run.folder.write_info(&info) {
            tracing::error!("run.json: {problem:#}");
        }
    }
}

fn start_info(
    folder: &RunFolder,
    plan: &Plan,
    catalog: &Catalog,
    options: &RunOptions,
    device: &str,
) -> Map<String, Value> {
    let former = folder.read_info();
    let mut info = Map::new();
    let versions = pipe_native::version();
    info.insert("format".into(), json!(1));
    info.insert("status".into(), json!("running"));
    info.insert("name".into(), json!(plan.pipeline.name));
    info.insert("started".into(), json!(now()));
    info.insert("device".into(), json!(device));
    info.insert("seed".into(), json!(plan.pipeline.seed));
    info.insert("command".into(), json!(options.command));
    info.insert("resumed_from".into(), json!(options.resume.as_ref().map(|path| path.display().to_string())));
    info.insert("pipeline_folder".into(), json!(options.pipeline_folder));
    info.insert("process".into(), json!(std::process::id()));
    let pipe = env!("CARGO_PKG_VERSION");
    info.insert(
        "versions".into(),
        json!({
            "pipe": pipe, "libtorch": versions.libtorch, "torchvision": versions.torchvision,
            "plugins": plugins::versions(catalog),
        }),
    );
    info.insert("git".into(), git());
    info.insert("machine".into(), machine());
    if !former.is_empty() {
        let mut earlier = former.get("earlier").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut last = former.clone();
        last.shift_remove("earlier");
        earlier.push(Value::Object(last));
        info.insert("earlier".into(), Value::Array(earlier));
    }
    info
}

fn git() -> Value {
    let ask = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = ask(&["rev-parse", "HEAD"]) else { return Value::Null };
    let dirty = ask(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    json!({ "commit": commit, "branch": ask(&["rev-parse", "--abbrev-ref", "HEAD"]), "dirty": dirty })
}

fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let processor = read("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    json!({ "host": read("/proc/sys/kernel/hostname"), "cores": cores, "processor": processor, "os": std::env::consts::OS })
}
