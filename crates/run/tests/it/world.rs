//! A trainer and an evaluator that only note what they do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use pipe_core::{
    Afterwards, Engine, EngineEvent, EngineState, EventContext, Filter, Handler, Instance, Limits, Loader, NodeId,
    Process, RunContext, Shared, State, Stateful, Step,
};
use pipe_data::Batch;
use pipe_run::checkpoint;
use pipe_run::events::{EventTable, Target, TargetAction, Wire};
use pipe_run::testing::TestRun;
use serde_json::json;

/// A loader of so many batches of nothing.
pub struct Batches {
    count: usize,
    next: usize,
    /// Batches until one is held up, and the run interrupted meanwhile.
    held: Option<usize>,
    interrupt: Arc<AtomicBool>,
}

impl Stateful for Batches {}

impl Loader for Batches {
    fn epoch_length(&self) -> Option<usize> {
        Some(self.count)
    }

    fn start_epoch(&mut self, _epoch: usize, first_batch: usize) -> Result<()> {
        self.next = first_batch;
        Ok(())
    }

    fn last_batch(&mut self) -> Result<Batch> {
        Ok(Batch::new(1))
    }

    fn wait(&mut self, _longest: Duration) -> bool {
        let held = self.held == Some(0);
        self.held = self.held.and_then(|held| held.checked_sub(1));
        self.interrupt.fetch_or(held, Ordering::SeqCst);
        !held
    }

    fn next_batch(&mut self) -> Result<Option<Batch>> {
        self.next += 1;
        Ok((self.next <= self.count).then(|| Batch::new(1)))
    }
}

/// What happened, in order; at one of the entries something is done.
#[derive(Clone, Default)]
pub struct Log {
    entries: Rc<RefCell<Vec<String>>>,
    /// Entries until [`Log::act`] is called.
    left: Rc<Cell<Option<usize>>>,
    act: Rc<RefCell<Option<Act>>>,
    acting: Rc<Cell<bool>>,
    /// How many entries belong to the checkpoint that was loaded.
    cut: Rc<Cell<usize>>,
}

type Act = Box<dyn FnMut(&RunContext)>;

impl Log {
    fn note(&self, entry: String, run: &RunContext) {
        self.entries.borrow_mut().push(entry);
        if self.left.replace(self.left.get().and_then(|left| left.checked_sub(1))) == Some(0) {
            let act = self.act.borrow_mut().take();
            self.acting.set(true);
            act.into_iter().for_each(|mut act| act(run));
            self.acting.set(false);
        }
    }

    pub fn entries(&self) -> Vec<String> {
        self.entries.borrow().clone()
    }
}

/// Notes each iteration, and is at rest after every `group` of them.
struct Notes {
    name: &'static str,
    log: Log,
    group: u64,
    pending: u64,
    resumes: bool,
}

impl Stateful for Notes {
    fn state(&self) -> Result<State> {
        let values = json!({ "pending": self.pending }).as_object().cloned().unwrap();
        Ok(State { values, ..State::default() })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.pending = state.values["pending"].as_u64().unwrap();
        Ok(())
    }
}

/// What stands in the log is part of a checkpoint, as records are.
impl Stateful for Log {
    fn state(&self) -> Result<State> {
        // A handler that is at work is called again.
        let entries = self.entries.borrow().len() - usize::from(self.acting.get());
        Ok(State { values: json!({ "entries": entries }).as_object().cloned().unwrap(), ..State::default() })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.cut.set(state.values["entries"].as_u64().unwrap() as usize);
        Ok(())
    }
}

impl Handler for Log {
    fn call(&mut self, _ctx: &EventContext<'_>) -> Result<()> {
        Ok(())
    }
}

impl Process for Notes {
    fn started(&mut self, _run: &RunContext) -> Result<()> {
        self.pending = 0;
        Ok(())
    }

    fn step(&mut self, _batch: Batch, state: &EngineState, run: &RunContext) -> Result<Step> {
        self.pending += 1;
        self.log.note(format!("{} step {}", self.name, state.iteration), run);
        let values = vec![("iteration".to_owned(), state.iteration as f64)];
        Ok(Step { values, backward: self.name == "trainer", ..Step::default() })
    }

    fn update(&mut self, _run: &RunContext) -> Result<bool> {
        let due = self.pending >= self.group;
        if due {
            self.pending = 0;
        }
        Ok(due)
    }

    fn completed(&mut self, _state: &EngineState, run: &RunContext) -> Result<()> {
        self.log.note(format!("{} results", self.name), run);
        Ok(())
    }

    fn epoch_ended(&mut self, _run: &RunContext) -> Result<bool> {
        Ok(std::mem::take(&mut self.pending) > 0)
    }

    fn resumes(&self) -> bool {
        self.resumes
    }

    fn at_rest(&self) -> bool {
        self.pending == 0
    }
}

/// Notes the events it is called on.
struct Called {
    name: &'static str,
    log: Log,
}

impl Stateful for Called {}

impl Handler for Called {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        if let Some(step) = ctx.step {
            assert_eq!(step.values, [("iteration".to_owned(), ctx.state.iteration as f64)]);
        }
        assert_eq!(ctx.step.is_some(), ctx.event == EngineEvent::IterationCompleted || ctx.step.is_some());
        self.log.note(format!("{} {} {}", self.name, ctx.event, ctx.count), ctx.run);
        Ok(())
    }
}

/// A trainer, and an evaluator that its events may run.
pub struct World {
    pub test: TestRun,
    pub log: Log,
    pub trainer: Rc<Engine>,
    pub evaluator: Rc<Engine>,
    batches: Shared<Batches>,
    wires: Vec<Wire>,
}

impl World {
    /// The trainer has epochs of `batches`, the evaluator of two. Half-done work of the evaluator is in a checkpoint where it
    /// `resumes`.
    pub fn new(limits: Limits, batches: usize, group: u64, resumes: bool) -> World {
        let (log, test) = (Log::default(), TestRun::new());
        let engine = |name: &'static str, limits: Limits, count: usize, group: u64, resumes: bool| {
            let process = Notes { name, log: log.clone(), group, pending: 0, resumes };
            let interrupt = test.run.interrupt.clone();
            let loader = Rc::new(RefCell::new(Batches { count, next: 0, held: None, interrupt }));
            let id: NodeId = format!("engine.{name}").parse().unwrap();
            let engine = Rc::new(Engine::new(id, limits, loader.clone(), Box::new(process)));
            test.add(&format!("engine.{name}"), Instance::Engine(engine.clone()));
            (engine, loader)
        };
        let (trainer, batches) = engine("trainer", limits, batches, group, true);
        let once = Limits { max_epochs: Some(1), ..Limits::default() };
        let (evaluator, _) = engine("evaluator", once, 2, 1, resumes);
        test.add("handler.log", Instance::handler(log.clone()));
        World { test, log, trainer, evaluator, batches, wires: Vec::new() }
    }

    /// Adds a `[[on]]`: events as `engine.NAME:EVENT`, targets by name, where `evaluator` is the engine and others are handlers.
    pub fn on(&mut self, events: &[&str], filter: Filter, targets: &[&'static str]) {
        let event = |event: &&str| {
            let (node, event) = event.split_once(':').unwrap();
            (node.parse().unwrap(), event.to_owned())
        };
        let target = |name: &&'static str| match *name {
            "evaluator" => {
                Target { node: self.evaluator.id.clone(), action: TargetAction::Run(self.evaluator.clone()) }
            }
            name => {
                let Instance::Handler(handler) = Instance::handler(Called { name, log: self.log.clone() }) else {
                    panic!("no handler")
                };
                Target { node: format!("handler.{name}").parse().unwrap(), action: TargetAction::Call(handler) }
            }
        };
        let targets = targets.iter().map(target).collect();
        self.wires.push(Wire::new(events.iter().map(event).collect(), filter, targets));
    }

    /// Does something right after the entry of that number (from 0) was noted.
    pub fn at_entry(&self, entry: usize, act: impl FnMut(&RunContext) + 'static) {
        self.log.left.set(Some(entry));
        *self.log.act.borrow_mut() = Some(Box::new(act));
    }

    /// Sends Ctrl-C while the trainer waits for a batch, when that many have been asked for before.
    pub fn interrupt_in_waiting(&self, batch: usize) {
        self.batches.borrow_mut().held = Some(batch);
    }

    /// Sends Ctrl-C right after that entry.
    pub fn interrupt_at(&self, entry: usize) {
        self.at_entry(entry, |run| run.interrupt.store(true, Ordering::SeqCst));
    }

    /// Saves a checkpoint right after that entry.
    pub fn save_at(&self, entry: usize) {
        self.at_entry(entry, |run| {
            let checkpoints = run.checkpoints().unwrap();
            let path = checkpoints.save("taken", &[], Afterwards::default()).unwrap();
            checkpoints.written(&path).unwrap();
        });
    }

    /// Saves a checkpoint of the run as it is.
    pub fn save(&self) {
        checkpoint::save(&self.test.graph, "taken").unwrap();
    }

    /// Goes back to what another one has saved; returns how many entries of its log belong to that.
    pub fn load(&mut self, other: &World) -> usize {
        self.join();
        let folder = other.test.run.folder.checkpoints().join("taken");
        assert_eq!(checkpoint::load(&self.test.graph, &folder, &[]).unwrap().warnings, Vec::<String>::new());
        self.log.cut.get()
    }

    fn join(&mut self) {
        if !self.wires.is_empty() {
            let table = EventTable { wires: std::mem::take(&mut self.wires) };
            *self.test.graph.events.borrow_mut() = Rc::new(table);
        }
    }

    /// Runs the trainer; whether it was interrupted.
    pub fn drive(&mut self) -> bool {
        self.join();
        let broken = self.test.graph.drive(&self.trainer).unwrap().is_break();
        assert_eq!(self.test.run.depth.get(), 0);
        broken
    }
}
