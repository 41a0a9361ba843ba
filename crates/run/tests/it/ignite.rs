//! The order of events, beside that of the same runs in PyTorch-Ignite (`tests/ignite/sequences.py`).
//!
//! Two differences are meant. An error ends a run, whether or not a handler listens to `exception_raised`; Ignite then goes on. And
//! `max_iterations` completes the epoch in which it is reached, so that its evaluation and its checkpoint are not left out; Ignite
//! fires `terminate` in place of `epoch_completed`.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Result, bail};
use pipe_core::{
    Engine, EngineEvent, EngineState, EventContext, Filter, Handler, Instance, Limits, Loader, NodeId, Process,
    RunContext, Shared, Stateful, Step, Termination,
};
use pipe_data::Batch;
use pipe_run::events::{EventTable, Target, TargetAction, Wire};
use pipe_run::testing::TestRun;
use serde::Deserialize;

#[derive(Deserialize)]
struct Sequences {
    runs: Vec<Script>,
}

/// A run: what a handler does at the nth occurrence of an event, and the order of all events.
#[derive(Deserialize)]
struct Script {
    name: String,
    batches: usize,
    max_epochs: Option<u64>,
    max_iterations: Option<u64>,
    epoch_length: Option<u64>,
    #[serde(default)]
    unknown: bool,
    act: Option<(String, u64, String)>,
    sequence: Vec<String>,
}

type Log = Rc<RefCell<Vec<String>>>;

struct Batches {
    count: usize,
    known: bool,
    next: usize,
}

impl Stateful for Batches {}

impl Loader for Batches {
    fn epoch_length(&self) -> Option<usize> {
        self.known.then_some(self.count)
    }

    fn start_epoch(&mut self, _epoch: usize, first_batch: usize) -> Result<()> {
        self.next = first_batch;
        Ok(())
    }

    fn last_batch(&mut self) -> Result<Batch> {
        Ok(Batch::new(1))
    }

    fn next_batch(&mut self) -> Result<Option<Batch>> {
        self.next += 1;
        Ok((self.next <= self.count).then(|| Batch::new(1)))
    }
}

struct Work {
    prefix: &'static str,
    log: Log,
    raise_at: Option<u64>,
}

impl Stateful for Work {}

impl Process for Work {
    fn step(&mut self, _batch: Batch, state: &EngineState, _run: &RunContext) -> Result<Step> {
        let number = if self.prefix.is_empty() { format!(" {}", state.iteration) } else { String::new() };
        self.log.borrow_mut().push(format!("{}work{number}", self.prefix));
        if self.raise_at == Some(state.iteration) {
            bail!("asked for");
        }
        Ok(Step::default())
    }
}

struct Listener {
    prefix: &'static str,
    log: Log,
    act: Option<(String, u64, String)>,
    seen: u64,
}

impl Stateful for Listener {}

impl Handler for Listener {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let (epoch, iteration) = (ctx.state.epoch, ctx.state.iteration);
        self.log.borrow_mut().push(format!("{}{} {epoch} {iteration}", self.prefix, ctx.event));
        let Some((event, nth, what)) = &self.act else { return Ok(()) };
        if ctx.event.as_str() != event {
            return Ok(());
        }
        self.seen += 1;
        if self.seen == *nth {
            match what.as_str() {
                "terminate" => ctx.run.terminate(ctx.engine, Termination::Run),
                "terminate_epoch" => ctx.run.terminate(ctx.engine, Termination::Epoch),
                "raise" => bail!("asked for"),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The events of a run here.
fn sequence(script: &Script) -> Vec<String> {
    let (test, log) = (TestRun::new(), Log::default());
    let act = script.act.clone();
    let is = |at: &str| act.as_ref().filter(|(event, ..)| event == at);
    let engine =
        |name: &str, prefix: &'static str, limits: Limits, count: usize, known: bool, raise_at: Option<u64>| {
            let work = Box::new(Work { prefix, log: log.clone(), raise_at });
            let loader = Rc::new(RefCell::new(Batches { count, known, next: 0 }));
            Rc::new(Engine::new(name.parse().unwrap(), limits, loader, work))
        };
    let limits = Limits {
        max_epochs: script.max_epochs,
        max_iterations: script.max_iterations,
        epoch_length: script.epoch_length,
    };
    let raise_at = is("work").map(|(_, nth, _)| *nth);
    let trainer = engine("engine.trainer", "", limits, script.batches, !script.unknown, raise_at);
    let once = Limits { max_epochs: Some(1), ..Limits::default() };
    let evaluator = engine("engine.evaluator", "evaluator ", once, 2, true, None);
    let listener = |prefix, act| -> Shared<dyn Handler> {
        match Instance::handler(Listener { prefix, log: log.clone(), act, seen: 0 }) {
            Instance::Handler(handler) => handler,
            _ => unreachable!("it is one"),
        }
    };
    let wires = |engine: &Rc<Engine>, listener: Shared<dyn Handler>| -> Vec<Wire> {
        let node: NodeId = format!("handler.{}", engine.id.name).parse().unwrap();
        let wire = |event: &EngineEvent| {
            let target = Target { node: node.clone(), action: TargetAction::Call(listener.clone()) };
            Wire::new(vec![(engine.id.clone(), event.name().to_owned())], Filter::default(), vec![target])
        };
        EngineEvent::ALL.iter().filter(|event| **event != EngineEvent::Interrupt).map(wire).collect()
    };
    let mut table = wires(&trainer, listener("", act.clone()));
    table.extend(wires(&evaluator, listener("evaluator ", None)));
    if let Some((event, nth, _)) = act.as_ref().filter(|(_, _, what)| what == "evaluate") {
        let target = Target { node: evaluator.id.clone(), action: TargetAction::Run(evaluator.clone()) };
        let filter = Filter { once: vec![*nth], ..Filter::default() };
        table.push(Wire::new(vec![(trainer.id.clone(), event.clone())], filter, vec![target]));
    }
    *test.graph.events.borrow_mut() = Rc::new(EventTable { wires: table });
    if test.graph.drive(&trainer).is_err() {
        log.borrow_mut().push("raised".into());
    }
    log.take()
}

#[test]
fn events_come_in_the_order_of_ignite() {
    let all: Sequences = serde_json::from_str(include_str!("../ignite/sequences.json")).unwrap();
    assert!(all.runs.len() >= 20);
    for script in &all.runs {
        let mut expected = script.sequence.clone();
        if let Some(at) = expected.iter().position(|entry| entry.starts_with("exception_raised")) {
            expected.truncate(at + 1);
            expected.push("raised".into());
        }
        if script.max_iterations.is_some() {
            let end = expected.iter_mut().find(|entry| entry.starts_with("terminate")).unwrap();
            *end = end.replace("terminate", "epoch_completed");
        }
        assert_eq!(sequence(script), expected, "{}", script.name);
    }
}
