//! The loop when what it drives fails.

use std::cell::RefCell;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use anyhow::Result;
use pipe_core::{
    Engine, EngineEvent, EngineState, EventContext, Filter, Handler, Instance, Limits, Loader, Process, RunContext,
    Stateful, Step,
};
use pipe_data::Batch;
use pipe_run::events::{EventTable, Target, TargetAction, Wire};
use pipe_run::testing::TestRun;

/// Three batches of nothing.
struct Three(usize);

impl Stateful for Three {}

impl Loader for Three {
    fn epoch_length(&self) -> Option<usize> {
        Some(3)
    }

    fn start_epoch(&mut self, _epoch: usize, first_batch: usize) -> Result<()> {
        self.0 = first_batch;
        Ok(())
    }

    fn last_batch(&mut self) -> Result<Batch> {
        Ok(Batch::new(1))
    }

    fn next_batch(&mut self) -> Result<Option<Batch>> {
        self.0 += 1;
        Ok((self.0 <= 3).then(|| Batch::new(1)))
    }
}

/// Panics in its second iteration, as tch's operators do, or never.
struct Fails(bool);

impl Stateful for Fails {}

impl Process for Fails {
    fn step(&mut self, _batch: Batch, state: &EngineState, _run: &RunContext) -> Result<Step> {
        if self.0 && state.iteration == 2 {
            let one = |size: i64| Tensor::ones([size], (Kind::Float, Device::Cpu));
            let _sum = tch::no_grad(|| one(2) + one(3));
        }
        Ok(Step::default())
    }
}

/// Notes the events it is called on, and panics on one of them.
struct Notes {
    seen: Rc<RefCell<Vec<String>>>,
    panics_on: Option<&'static str>,
}

impl Stateful for Notes {}

impl Handler for Notes {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        self.seen.borrow_mut().push(format!("{} {}", ctx.event, ctx.count));
        if self.panics_on == Some(ctx.event.as_str()) {
            panic!("the handler is broken");
        }
        Ok(())
    }
}

fn run(fails: bool, panics_on: Option<&'static str>) -> (String, Vec<String>) {
    let test = TestRun::new();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let events = [EngineEvent::IterationCompleted.name(), EngineEvent::ExceptionRaised.name()];
    let wires = [panics_on, None].map(|panics_on| {
        let Instance::Handler(handler) = Instance::handler(Notes { seen: seen.clone(), panics_on }) else {
            panic!("no handler")
        };
        let target = Target { node: "handler.h".parse().unwrap(), action: TargetAction::Call(handler) };
        let events = events.iter().map(|event| ("engine.e".parse().unwrap(), (*event).to_owned())).collect();
        Wire::new(events, Filter::default(), vec![target])
    });
    *test.graph.events.borrow_mut() = Rc::new(EventTable { wires: wires.into() });
    let limits = Limits { max_epochs: Some(1), ..Limits::default() };
    let loader = Rc::new(RefCell::new(Three(0)));
    let engine = Engine::new("engine.e".parse().unwrap(), limits, loader, Box::new(Fails(fails)));
    let error = format!("{:#}", test.graph.drive(&engine).unwrap_err());
    assert_eq!(test.run.depth.get(), 0);
    assert!(
        engine.state(false).is_ok() && pipe_native::numeric::records_gradients(),
        "nothing stays as the panic left it"
    );
    let seen = seen.borrow().clone();
    (error, seen)
}

#[test]
fn a_panic_of_a_step_is_an_error_with_its_place() {
    let (error, seen) = run(true, None);
    assert!(error.starts_with("engine.e: iteration 2 of epoch 1: libtorch: The size of tensor a (2)"), "{error}");
    let twice = |event: &str| [event.to_owned(), event.to_owned()];
    assert_eq!(seen, [twice("iteration_completed 1"), twice("exception_raised 1")].concat());
}

#[test]
fn a_panic_of_a_handler_lets_the_others_run() {
    let (error, seen) = run(false, Some(EngineEvent::IterationCompleted.name()));
    let expected = "handler.h on engine.e:iteration_completed: a fault of the program: the handler is broken (at crates/run/tests/";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(seen.iter().filter(|event| *event == "iteration_completed 1").count(), 2);
    let (error, _) = run(true, Some(EngineEvent::ExceptionRaised.name()));
    assert!(error.contains("while handling it") && error.contains("tensor a (2)"), "{error}");
}
