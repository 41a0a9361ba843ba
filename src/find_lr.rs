//! `pipe find-lr FILE`: the learning rate range test.
//!
//! A command and not a handler: the engine's own process makes the steps, with the run's precision, loss scaling, accumulation and
//! clipping, on a copy of everything that ends with the command. There is nothing to put back.

use std::cell::RefCell;
use std::ops::ControlFlow;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use pipe_components::engine::train::TrainConfig;
use pipe_core::{
    Boundary, Dispatch, EngineEvent, EventContext, Instance, Interrupted, Kind, LR, Limits, NodeId, Optimizer,
    RunContext, Shared, Termination, ValueRef, component::build::config_of, writable,
};
use serde_json::{Value, json};

use crate::output::{Format, Status, print};
use crate::partial::{Partial, port_of, training_engine};
use crate::preflight::choose_batch_sizes;
use crate::signals::{Signals, Words};
use crate::source::{PipelineArgs, plan_or_tell};

/// Arguments of `pipe find-lr`.
#[derive(Debug, Args)]
pub struct FindLrArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The training engine, if the pipeline has several.
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Number of optimizer steps.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(3..))]
    iterations: u64,
    /// The first learning rate.
    #[arg(long, value_name = "LR", default_value_t = 1e-6, value_parser = positive)]
    start: f64,
    /// The last learning rate.
    #[arg(long, value_name = "LR", default_value_t = 10.0, value_parser = positive)]
    end: f64,
    /// How the learning rate grows.
    #[arg(long, value_enum, default_value_t)]
    mode: Growth,
    /// Weight of the newest loss in the smoothed one; 1 does not smooth.
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.05, value_parser = positive)]
    smooth: f64,
    /// Stop when the smoothed loss is so many times the best one.
    #[arg(long, value_name = "FACTOR", default_value_t = 5.0, value_parser = positive)]
    diverge: f64,
    /// Device, instead of the pipeline's.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Growth {
    /// By the same factor each iteration.
    #[default]
    Exp,
    /// By the same amount each iteration.
    Linear,
}

fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "expected a number above 0".into())
}

/// Trains with a growing learning rate and says where the loss falls most steeply.
///
/// # Errors
/// What stops the training.
pub fn find_lr(args: &FindLrArgs) -> Result<Status> {
    ensure!(args.end > args.start, "--end {} is not above --start {}", args.end, args.start);
    ensure!(args.smooth <= 1.0, "--smooth {} is above 1", args.smooth);
    let mut pipeline = args.pipeline.clone();
    let mut loaded = pipeline.load();
    if plan_or_tell(&loaded)?.is_none() {
        return Ok(Status::Wrong);
    }
    choose_batch_sizes(&mut pipeline, &mut loaded, args.device.as_deref(), None)?;
    let Some(plan) = loaded.plan.as_mut() else { return Ok(Status::Wrong) };
    let id = training_engine(plan, args.engine.as_deref())?.clone();
    let optimizer = port_of(plan, &id, Kind::Optimizer).with_context(|| format!("{id} has no optimizer"))?.clone();
    let component = plan.nodes.get(&id).and_then(|node| node.component.as_deref());
    let config = component.and_then(config_of::<TrainConfig>).with_context(|| format!("{id} was not checked"))?;
    let accumulate = config.accumulate as usize;
    // A loss that is not finite is the end of the test, not of the program.
    set(plan, &id, "on_non_finite", json!("skip"))?;
    let words = Words {
        first: Some("stopping; press Ctrl-C again to stop immediately"),
        still: "the step is still running",
        json: false,
    };
    let signals = Signals::listen(words)?;
    let interrupt = signals.requests.interrupt.clone();
    let partial = Partial::open(plan, loaded.catalog.clone(), args.device.as_deref(), interrupt)?;
    let Instance::Engine(engine) = partial.build_with_weights(plan, &id)? else { bail!("{id} is not an engine") };
    let Instance::Optimizer(optimizer) = partial.graph.node(&optimizer)? else { bail!("{optimizer} is no optimizer") };
    // It is the test that ends.
    engine.set_limits(Limits { max_epochs: None, max_iterations: None, ..engine.limits() });
    let loss = ValueRef { node: id.clone(), value: "loss".into() };
    let rates = Rates { start: args.start, end: args.end, growth: args.mode, iterations: args.iterations };
    let curve = RefCell::new(Curve::new(args.smooth, args.diverge));
    let test = Test { id, loss, optimizer, rates, accumulate, waiting: RefCell::default(), curve };
    test.set(0)?;
    if engine.run(&partial.graph.run, &test)?.is_break() {
        return Ok(Status::Signalled(signals.status()));
    }
    let curve = test.curve.into_inner();
    print(&match args.format {
        Format::Text => curve.text(),
        Format::Json => serde_json::to_string_pretty(&curve.json())? + "\n",
    })
}

/// Sets an option that the test needs.
fn set(plan: &mut pipe_plan::Plan, node: &NodeId, option: &str, value: Value) -> Result<()> {
    plan.set_option(node, &[option.into()], value).map_err(|problem| anyhow!("{node}: {problem}"))
}

/// The learning rates of the test.
struct Rates {
    start: f64,
    end: f64,
    growth: Growth,
    iterations: u64,
}

impl Rates {
    /// The rate of an iteration, counted from 0; the last one has `end`.
    fn at(&self, iteration: u64) -> f64 {
        let part = iteration as f64 / (self.iterations - 1) as f64;
        match self.growth {
            Growth::Exp => self.start * (self.end / self.start).powf(part),
            Growth::Linear => self.start + (self.end - self.start) * part,
        }
    }
}

/// What listens to the engine, in place of the pipeline's events: after each step it takes the loss and sets the next rate.
struct Test {
    id: NodeId,
    loss: ValueRef,
    optimizer: Shared<dyn Optimizer>,
    rates: Rates,
    /// Batches that make one step.
    accumulate: usize,
    /// The losses of those since the last step.
    waiting: RefCell<Vec<f64>>,
    curve: RefCell<Curve>,
}

impl Test {
    /// Gives the optimizer the rate of a step; groups keep their proportions.
    fn set(&self, iteration: u64) -> Result<()> {
        let mut optimizer = writable(&self.optimizer, &self.id)?;
        let base = |group: &pipe_core::ParamGroup| group.settings.get(LR).copied().unwrap_or(0.0);
        let first = optimizer.groups().iter().map(base).find(|base| *base > 0.0);
        let first =
            first.context("the optimizer's learning rate is 0: set any other, the groups' are in proportion to it")?;
        for group in optimizer.groups_mut() {
            let lr = self.rates.at(iteration) * base(group) / first;
            group.set(LR, &self.id, lr)?;
        }
        Ok(())
    }
}

impl Test {
    /// The optimizer has made a step.
    fn stepped(&self, run: &RunContext) -> Result<()> {
        let losses = self.waiting.take();
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        let mut curve = self.curve.borrow_mut();
        let step = curve.points.len() as u64;
        if curve.add(self.rates.at(step), loss) && step + 1 < self.rates.iterations {
            return self.set(step + 1);
        }
        run.terminate(&self.id, Termination::Run);
        Ok(())
    }
}

impl Dispatch for Test {
    fn fire(&self, ctx: &EventContext<'_>) -> Result<ControlFlow<Interrupted>> {
        if ctx.event == EngineEvent::IterationCompleted {
            let measured = ctx.run.value_with_step(&self.loss).filter(|(_, step)| *step == ctx.run.clock.get().step);
            self.waiting.borrow_mut().push(measured.map_or(f64::NAN, |(loss, _)| loss));
        }
        let waiting = self.waiting.borrow().len();
        // The last batches of an epoch make a step even if they are fewer.
        if waiting >= self.accumulate || waiting > 0 && ctx.event == EngineEvent::EpochCompleted {
            self.stepped(ctx.run)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn listens(&self, _node: &NodeId, _event: &str) -> bool {
        false
    }

    fn begin(&self, _engine: &NodeId) {}

    fn pause(&self, _engine: &NodeId, _boundary: Boundary) {}
}

/// Learning rates and smoothed losses; where to stop, and what to suggest, as Ignite's `FastaiLRFinder`.
struct Curve {
    smooth: f64,
    diverge: f64,
    points: Vec<(f64, f64)>,
    best: f64,
    diverged: bool,
}

impl Curve {
    fn new(smooth: f64, diverge: f64) -> Curve {
        Curve { smooth, diverge, points: Vec::new(), best: f64::INFINITY, diverged: false }
    }

    /// Adds the loss of a step with that rate; whether the test goes on.
    fn add(&mut self, lr: f64, loss: f64) -> bool {
        if !loss.is_finite() {
            self.diverged = true;
            return false;
        }
        let smoothed = self.points.last().map_or(loss, |(_, before)| self.smooth * loss + (1.0 - self.smooth) * before);
        self.best = self.best.min(smoothed);
        self.points.push((lr, smoothed));
        self.diverged = smoothed > self.diverge * self.best;
        !self.diverged
    }

    /// The rate at which the loss falls most steeply, before its minimum.
    fn suggestion(&self) -> Option<f64> {
        let losses: Vec<f64> = self.points.iter().map(|(_, loss)| *loss).collect();
        let lowest = losses.iter().position(|loss| *loss == self.best)?;
        let slope = |i: &usize| losses[i + 1] - losses[i - 1];
        let steepest = (1..lowest).min_by(|a, b| slope(a).total_cmp(&slope(b)))?;
        Some(self.points[steepest].0)
    }

    fn json(&self) -> Value {
        let (lr, loss): (Vec<f64>, Vec<f64>) = self.points.iter().copied().unzip();
        json!({ "lr": lr, "loss": loss, "diverged": self.diverged, "suggestion": self.suggestion() })
    }

    fn text(&self) -> String {
        let mut text = format!("{:>12}  {:>12}\n", "lr", "loss");
        let every = self.points.len().div_ceil(20).max(1);
        let shown = self.points.iter().enumerate().filter(|(i, _)| i % every == 0 || i + 1 == self.points.len());
        text.extend(shown.map(|(_, (lr, loss))| format!("{lr:>12.4e}  {loss:>12.5}\n")));
        text.push_str(match self.diverged {
            true => "\nstopped: the loss diverged\n",
            false => "\nthe loss did not diverge: a higher --end shows more\n",
        });
        match self.suggestion() {
            Some(lr) => text.push_str(&format!("suggestion: lr = {lr:.2e}, where the loss falls most steeply\n")),
            None => text.push_str("no suggestion: the loss does not fall before it diverges; lower --start\n"),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    }

    fn assert_close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
        assert!(got.iter().zip(expected).all(close), "{got:?}, expected {expected:?}");
    }

    #[test]
    fn the_curve_stops_and_suggests_as_ignite_does() {
        let file: Value = serde_json::from_str(include_str!("../tests/parity/find_lr/expected.json")).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let (raw, lrs) = (numbers(&case["raw"]), numbers(&case["lrs"]));
            let mut curve = Curve::new(case["smooth"].as_f64().unwrap(), case["diverge"].as_f64().unwrap());
            let steps = raw.iter().zip(&lrs).take_while(|(loss, lr)| curve.add(**lr, **loss)).count();
            let stopped = usize::from(curve.diverged);
            assert_eq!(steps + stopped, lrs.len());
            let losses: Vec<f64> = curve.points.iter().map(|(_, loss)| *loss).collect();
            assert_close(&losses, &numbers(&case["losses"]));
            assert_eq!(curve.suggestion(), case["suggestion"].as_f64());
        }
    }

    #[test]
    fn a_loss_that_is_not_finite_ends_the_test_and_is_no_point_of_it() {
        let mut curve = Curve::new(1.0, 5.0);
        assert!(curve.add(0.1, 1.0) && !curve.add(0.2, f64::NAN) && curve.diverged);
        assert_eq!((curve.points.len(), curve.suggestion()), (1, None));
    }

    #[test]
    fn rates_go_from_the_first_to_the_last() {
        for growth in [Growth::Exp, Growth::Linear] {
            let rates = Rates { start: 1e-4, end: 1.0, growth, iterations: 5 };
            assert_close(&[rates.at(0), rates.at(4)], &[1e-4, 1.0]);
            assert!((0..4).all(|i| rates.at(i) < rates.at(i + 1)));
        }
    }
}
