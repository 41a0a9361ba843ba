//! `pipe eval RUN`, `pipe eval FILE --weights W`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use pipe_run::labels;
use pipe_run::running::add_console;
use serde_json::Value;

use crate::output::{Format, Status, print, refuse_foreign};
use crate::partial::{Partial, choose, load_weights, port_of, weights_for};
use crate::signals::{STOPPING, Signals};
use crate::source::{PipelineArgs, plan_or_tell};
use pipe_components::engine::evaluate::EvaluateConfig;
use pipe_components::metric::coco_ap::CocoApConfig;
use pipe_components::sink::console::report::tables;
use pipe_core::record::number;
use pipe_core::{Config, Instance, Kind, NodeId, Record, RecordValue, Sink, Stateful, Subscription, ValueRef};
use pipe_document::PathSegment;
use pipe_plan::{Plan, PlanNode};

/// Arguments of `pipe eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Weights: a `.safetensors` or `.pth` file, a checkpoint's folder, a run's folder (its best checkpoint), `torchvision:NAME`;
    /// `best` or `latest` of the newest run. A run in place of FILE needs none.
    #[arg(long, value_name = "PATH")]
    weights: Option<String>,
    /// Write the detections, in COCO's results format. Of each metric that can.
    #[arg(long, value_name = "OUT.json")]
    results: Option<PathBuf>,
    /// Diagnose the evaluation, and write `diagnostics.json` and charts into this folder. By each metric that can.
    #[arg(long, value_name = "DIR")]
    diagnostics: Option<PathBuf>,
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
    let mut loaded = args.pipeline.load();
    // Rules about training are of no interest here.
    if loaded.plan.is_none() && plan_or_tell(&loaded)?.is_none() {
        return Ok(Status::Wrong);
    }
    let Some(plan) = &mut loaded.plan else { return Ok(Status::Wrong) };
    if let Some(out) = &args.results {
        refuse_foreign(out)?;
        write_into(plan, "results", out)?;
    }
    if let Some(folder) = &args.diagnostics {
        ensure!(!folder.is_file(), "{} is a file; diagnostics are written into a folder", folder.display());
        write_into(plan, "diagnostics", folder)?;
    }
    let plan = &*plan;
    let is_evaluation = |node: &PlanNode| node.descriptor.name == EvaluateConfig::TYPE;
    let id = choose(plan, Kind::Engine, args.engine.as_deref(), is_evaluation, "engine of type `evaluate`")?;
    let model = port_of(plan, id, Kind::Model).with_context(|| format!("{id} has no model"))?;
    let weights = weights_for(&args.pipeline, args.weights.as_deref(), plan, model)?;
    let interrupt = Signals::listen(STOPPING)?;
    let partial =
        Partial::open(plan, loaded.catalog.clone(), args.device.as_deref(), interrupt.requests.interrupt.clone())?;
    let Instance::Engine(engine) = partial.build(plan, id)? else { bail!("{id} is not an engine") };
    if let Some(trained) = labels::of_weights(&weights.metadata) {
        labels::check_weights(plan, &partial.graph.nodes.borrow(), model, &trained)?;
    }
    load_weights(&partial.graph, model, weights.tensors)?;
    let texts = Rc::new(RefCell::new(Texts::default()));
    if args.format == Format::Text {
        // Of the records nothing: the values are told below.
        add_console(&partial.graph, vec![id.clone()])?;
        let (node, sink) = (NodeId::new(Kind::Sink, "texts"), texts.clone());
        partial.context().subscribe(Subscription { node, inputs: Vec::new(), sink });
    }
    if partial.graph.drive(&engine)?.is_break() {
        return Ok(Status::Signalled(interrupt.status()));
    }
    partial.context().flush()?;
    let values = partial.context().values();
    print(&match args.format {
        Format::Text => {
            let full = |(name, value): (String, f64)| Some((serde_json::from_value(name.into()).ok()?, value));
            let values: Vec<(ValueRef, f64)> = values.into_iter().filter_map(full).collect();
            tables(&values, &texts.borrow().0) + "\n"
        }
        Format::Json => {
            let values: serde_json::Map<String, Value> =
                values.into_iter().map(|(name, value)| (name, number(value))).collect();
            serde_json::to_string_pretty(&values)? + "\n"
        }
    })
}

/// Has the metrics that can write their detections or diagnostics do so: by the option of that name.
fn write_into(plan: &mut Plan, option: &str, out: &Path) -> Result<()> {
    let out = std::path::absolute(out).with_context(|| format!("cannot write {}", out.display()))?;
    let can = |node: &PlanNode| node.descriptor.name == CocoApConfig::TYPE;
    let metrics: Vec<NodeId> = plan.nodes.values().filter(|node| can(node)).map(|node| node.id.clone()).collect();
    ensure!(!metrics.is_empty(), "no metric of the pipeline has {option} to write (`--{option}`); `coco_ap` has");
    for metric in metrics {
        let set = plan.set_option(&metric, &[PathSegment::from(option)], out.display().to_string().into());
        set.map_err(|problem| anyhow!("{metric}: {problem}"))?;
    }
    Ok(())
}

/// The texts of the metrics.
#[derive(Default)]
struct Texts(Vec<(NodeId, String)>);

impl Stateful for Texts {}

impl Sink for Texts {
    fn write(&mut self, record: &Record) -> Result<()> {
        if let RecordValue::Text(text) = &record.value {
            self.0.push((record.node.clone(), text.clone()));
        }
        Ok(())
    }
}
