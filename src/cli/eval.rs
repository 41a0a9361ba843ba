//! `pipe eval FILE --weights W`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use super::partial::{Partial, choose, load_weights, port_of, read_weights};
use super::run::interrupt_flag;
use super::source::PipelineArgs;
use super::{Format, Status};
use crate::components::engine::evaluate::EvaluateConfig;
use crate::components::sink::console::ConsoleConfig;
use crate::engine::Outcome;
use crate::registry::{Component, Kind, NodeId};
use crate::run::context::Subscription;
use crate::run::record::number;
use crate::run::{BuildContext, Instance};

/// Arguments of `pipe eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Weights: a `.safetensors` or `.pth` file, a checkpoint's folder or a run's.
    #[arg(long, value_name = "PATH")]
    weights: PathBuf,
    /// Which evaluation, where the pipeline has several.
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Where the model runs, before the pipeline's own device.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// How the values are printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs an evaluation alone; values go to standard output.
///
/// # Errors
/// What stops the evaluation.
pub fn eval(args: &EvalArgs) -> Result<Status> {
    let loaded = args.pipeline.load();
    let Some(plan) = loaded.plan_or_tell()? else { return Ok(Status::Wrong) };
    let is_evaluation = |node: &crate::plan::PlanNode| node.descriptor.name == EvaluateConfig::TYPE;
    let id = choose(plan, Kind::Engine, args.engine.as_deref(), is_evaluation, "engine of type `evaluate`")?;
    let model = port_of(plan, id, Kind::Model).with_context(|| format!("{id} has no model"))?;
    let tensors = read_weights(&args.weights, model)?;
    let partial = Partial::open(plan, args.device.as_deref(), interrupt_flag(false)?)?;
    let Instance::Engine(engine) = partial.build(plan, id)? else { bail!("{id} is not an engine") };
    load_weights(&partial.context, model, tensors)?;
    if args.format == Format::Text {
        show_progress(&partial)?;
    }
    if engine.run(&partial.context)? == Outcome::Interrupted {
        return Ok(Status::Interrupted);
    }
    partial.context.flush()?;
    let values = partial.context.values();
    super::print(&match args.format {
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

fn show_progress(partial: &Partial) -> Result<()> {
    let node = NodeId::new(Kind::Sink, "console");
    let built = ConsoleConfig::default().build(&mut BuildContext { run: &partial.context, node: &node })?;
    if let Instance::Sink(sink) = built {
        partial.context.subscribe(Subscription { node, inputs: Vec::new(), sink });
    }
    Ok(())
}
