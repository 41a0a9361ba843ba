//! Before the first step of a run on an accelerator: the batch sizes that it looks for, and whether its largest batches fit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pipe_core::{Instance, Kind, NodeId, terminal};
use pipe_plan::Plan;
use pipe_run::load::Loaded;
use pipe_run::options::run_of;
use pipe_run::preflight::{Found, largest_batch_size, preflight};
use pipe_run::running::Running;
use serde_json::json;

use crate::partial::Partial;
use crate::source::PipelineArgs;

/// Tries the largest batches of every engine and says what was found. Nothing on the CPU, whose memory libtorch does not count, nor
/// where the pipeline does not want it.
///
/// # Errors
/// What the run would fail on.
pub fn tell(running: &Running, wanted: bool) -> Result<()> {
    if !wanted || !pipe_native::is_accelerator(running.context().device) {
        return Ok(());
    }
    let found = {
        let _takes_long = terminal::working("preflight: trying the largest batches");
        preflight(&running.graph)?
    };
    for Found { engine, batches, slowest, peak, capacity, iteration, epoch } in found {
        tracing::info!(
            "{engine}: of {batches} batches the largest fit (the slowest is {slowest}): at most {} of {}; an epoch takes about {} ({} an iteration)",
            gibibytes(peak),
            gibibytes(capacity),
            about(epoch),
            about(iteration)
        );
    }
    Ok(())
}

/// Gives a number to every loader that has `batch_size = "auto"`: that of the run which goes on, else the largest that fits. Where
/// there was one, the pipeline is read anew.
///
/// # Errors
/// When none can be found.
pub fn choose_batch_sizes(
    args: &mut PipelineArgs,
    loaded: &mut Loaded,
    device: Option<&str>,
    checkpoint: Option<&Path>,
) -> Result<()> {
    let Some(plan) = &loaded.plan else { return Ok(()) };
    let automatic = plan.nodes.values().filter(|node| node.id.kind == Kind::Loader && is_automatic(&node.config));
    let mut chosen = Vec::new();
    for loader in automatic {
        let size = match checkpoint.and_then(|checkpoint| before(run_of(checkpoint), &loader.id)) {
            Some(size) => size,
            None => largest(plan, loaded, &loader.id, device)?,
        };
        chosen.push((loader.id.clone(), size));
    }
    for (loader, size) in &chosen {
        let key = format!("{loader}.batch_size");
        args.sets.retain(|set| set.split_once('=').is_none_or(|(other, _)| other.trim() != key));
        args.sets.push(format!("{key}={size}"));
    }
    if !chosen.is_empty() {
        *loaded = args.load();
    }
    Ok(())
}

fn is_automatic(config: &serde_json::Value) -> bool {
    config.get("batch_size") == Some(&json!("auto"))
}

/// The batch size that a run had last.
fn before(run: &Path, loader: &NodeId) -> Option<usize> {
    let pipeline =
        PipelineArgs { file: run.to_owned(), profile: None, sets: Vec::new(), accept: Vec::new(), base: None };
    let size = pipeline.load().plan?.nodes.get(loader)?.config.get("batch_size")?.as_u64()?;
    usize::try_from(size).ok()
}

fn largest(plan: &Plan, loaded: &Loaded, loader: &NodeId, device: Option<&str>) -> Result<usize> {
    pipe_native::init()?;
    let (device, _) = pipe_native::choose_device(device.unwrap_or(&plan.pipeline.device))?;
    let _takes_long = terminal::working(format!("{loader}: looking for the largest batch size that fits"));
    let mut engines = plan.data_edges.iter().filter(|edge| edge.from == *loader && edge.to.kind == Kind::Engine);
    let engine = &engines.next().with_context(|| format!("{loader}: batch_size = \"auto\", but no engine uses it"))?.to;
    let partial = Partial::on(device, plan, loaded.catalog.clone(), Arc::default())?;
    let Instance::Engine(built) = partial.build(plan, engine)? else { bail!("{engine} is no engine") };
    let size = largest_batch_size(&partial.graph, &built).with_context(|| loader.to_string())?;
    tracing::info!("{loader}: batch_size = {size}, the largest with which all batches of {engine} fit");
    Ok(size)
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

/// A time in two digits.
fn about(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 5400.0 => format!("{:.1} h", seconds / 3600.0),
        seconds if seconds >= 90.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.0} ms", seconds * 1e3),
    }
}
