//! The engine's own cost: microseconds of an iteration that does nothing, with ten handlers that do nothing.
//! `scripts/engine_overhead.py` prints it beside Ignite's.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use pipe_core::{
    Engine, EngineEvent, EngineState, EventContext, Filter, Handler, Instance, Limits, Loader, Process, RunContext,
    Stateful, Step,
};
use pipe_data::Batch;
use pipe_run::events::{EventTable, Target, TargetAction, Wire};
use pipe_run::testing::TestRun;

const EPOCHS: u64 = 20;
const ITERATIONS: usize = 10_000;
const HANDLERS: usize = 10;

struct Nothing {
    given: usize,
}

impl Stateful for Nothing {}

impl Loader for Nothing {
    fn epoch_length(&self) -> Option<usize> {
        Some(ITERATIONS)
    }

    fn start_epoch(&mut self, _epoch: usize, first_batch: usize) -> Result<()> {
        self.given = first_batch;
        Ok(())
    }

    fn last_batch(&mut self) -> Result<Batch> {
        Ok(Batch::default())
    }

    fn next_batch(&mut self) -> Result<Option<Batch>> {
        self.given += 1;
        Ok((self.given <= ITERATIONS).then(Batch::default))
    }
}

impl Process for Nothing {
    fn step(&mut self, _batch: Batch, _state: &EngineState, _run: &RunContext) -> Result<Step> {
        Ok(Step::default())
    }
}

impl Handler for Nothing {
    fn call(&mut self, _ctx: &EventContext<'_>) -> Result<()> {
        self.given += 1;
        Ok(())
    }
}

fn main() -> Result<()> {
    let test = TestRun::new();
    let limits = Limits { max_epochs: Some(EPOCHS), ..Limits::default() };
    let loader = Rc::new(RefCell::new(Nothing { given: 0 }));
    let engine = Engine::new("engine.trainer".parse()?, limits, loader, Box::new(Nothing { given: 0 }));
    let mut targets = Vec::new();
    for number in 0..HANDLERS {
        if let Instance::Handler(handler) = Instance::handler(Nothing { given: 0 }) {
            targets.push(Target { node: format!("handler.h{number}").parse()?, action: TargetAction::Call(handler) });
        }
    }
    let event = (engine.id.clone(), EngineEvent::IterationCompleted.name().to_owned());
    let wires = vec![Wire::new(vec![event], Filter::default(), targets)];
    *test.graph.events.borrow_mut() = Rc::new(EventTable { wires });
    let began = Instant::now();
    let _ = test.graph.drive(&engine)?;
    let all = EPOCHS as f64 * ITERATIONS as f64;
    println!("{:.4}", began.elapsed().as_secs_f64() * 1e6 / all);
    Ok(())
}
