//! `pipe eval FILE --weights W`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use pipe_run::labels;
use pipe_run::running::add_console;
use serde_json::Value;

use crate::output::{Format, Status, print};
use crate::partial::{Partial, choose, load_weights, port_of, read_weights};
use crate::signals::{STOPPING, Signals};
use crate::source::{PipelineArgs, plan_or_tell};
use pipe_components::engine::evaluate::EvaluateConfig;
use pipe_core::record::number;
use pipe_core::{Config, Instance, Kind};

/// Arguments of `pipe eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Weights: a `.safetensors` or `.pth` file, or the folder of a checkpoint or a run.
    #[arg(long, value_name = "PATH")]
    weights: PathBuf,
    /// The evaluation engine, if the pipeline has several.
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Device, instead of the pipeline's.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs only an evaluation; values go to standard output.
///
/// # Errors
/// What stops the evaluation.
pub fn eval(args: &EvalArgs) -> Result<Status> {
    let loaded = args.pipeline.load();
    let Some(plan) = plan_or_tell(&loaded)? else { return Ok(Status::Wrong) };
    let is_evaluation = |node: &pipe_plan::PlanNode| node.descriptor.name == EvaluateConfig::TYPE;
    let id = choose(plan, Kind::Engine, args.engine.as_deref(), is_evaluation, "engine of type `evaluate`")?;
    let model = port_of(plan, id, Kind::Model).with_context(|| format!("{id} has no model"))?;
    let weights = read_weights(&args.weights, model)?;
    let interrupt = Signals::listen(STOPPING)?;
    let partial =
        Partial::open(plan, loaded.catalog.clone(), args.device.as_deref(), interrupt.requests.interrupt.clone())?;
    let Instance::Engine(engine) = partial.build(plan, id)? else { bail!("{id} is not an engine") };
    if let Some(trained) = labels::of_weights(&weights.metadata) {
        labels::check_weights(plan, &partial.graph, model, &trained)?;
    }
    load_weights(&partial.graph, model, weights.tensors)?;
    if args.format == Format::Text {
        add_console(&partial.graph)?;
    }
    if partial.graph.drive(&engine)?.is_break() {
        return Ok(Status::Signalled(interrupt.status()));
    }
    partial.context().flush()?;
    let values = partial.context().values();
    print(&match args.format {
        Format::Text => {
            let width = values.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            values.iter().map(|(name, value)| format!("{name:width$}  {value:.4}\n")).collect()
        }
        Format::Json => {
            let values: serde_json::Map<String, Value> =
                values.into_iter().map(|(name, value)| (name, number(value))).collect();
            serde_json::to_string_pretty(&values)? + "\n"
        }
    })
}
