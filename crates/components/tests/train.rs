//! `engine.train` on a linear model whose numbers are computed here once more, in double precision and by hand: softmax
//! cross-entropy, its gradient, SGD, and torch's formula for clipping (`torch.nn.utils.clip_grad_norm_`).

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use pipe_components as _;
use pipe_core::{Engine, EngineEvent, EventContext, Filter, Handler, Instance, Loader, Model, Shared, State, Stateful};
use pipe_data::{Batch, BatchField, fields};
use pipe_run::events::{EventTable, Target, TargetAction, Wire};
use pipe_run::testing::{TestRun, assert_close, stored};
use serde_json::{Value, json};
use tch::Tensor;

/// Features of a sample.
const FEATURES: usize = 3;
/// Classes.
const CLASSES: usize = 2;
const LR: f64 = 0.5;

/// A sample: its features and its class.
type Sample = ([f64; FEATURES], usize);

/// Batches of two samples; the last one has one. Numbers that f32 holds exactly.
fn batches() -> Vec<Vec<Sample>> {
    let mut state = 1u32;
    let mut number = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 24) / 64.0 - 2.0
    };
    let mut sample = move |class: usize| ([number(), number(), number()], class);
    (0..5).map(|batch| (0..if batch == 4 { 1 } else { 2 }).map(|i| sample((batch + i) % CLASSES)).collect()).collect()
}

/// The weights `[CLASSES, FEATURES]` row by row, then the biases.
fn first_weights() -> Vec<f64> {
    vec![0.5, -0.25, 0.125, -0.5, 0.75, 0.0625, 0.25, -0.125]
}

/// The gradient of a batch's mean cross-entropy.
fn gradient(weights: &[f64], batch: &[Sample]) -> Vec<f64> {
    let mut sum = vec![0.0; weights.len()];
    for (x, class) in batch {
        let bias = CLASSES * FEATURES;
        let logit = |c: usize| (0..FEATURES).map(|f| weights[c * FEATURES + f] * x[f]).sum::<f64>() + weights[bias + c];
        let exps: Vec<f64> = (0..CLASSES).map(|c| logit(c).exp()).collect();
        let total: f64 = exps.iter().sum();
        for c in 0..CLASSES {
            let slope = exps[c] / total - f64::from(u8::from(c == *class));
            (0..FEATURES).for_each(|f| sum[c * FEATURES + f] += slope * x[f] / batch.len() as f64);
            sum[bias + c] += slope / batch.len() as f64;
        }
    }
    sum
}

/// Epochs of SGD in groups of `accumulate` batches; the last group of an epoch may have fewer and is averaged over its own.
fn by_hand(epochs: usize, accumulate: usize, clip: Option<f64>, batches: &[Vec<Sample>]) -> Vec<f64> {
    let mut weights = first_weights();
    for _ in 0..epochs {
        for group in batches.chunks(accumulate) {
            let mut mean = vec![0.0; weights.len()];
            for batch in group {
                let gradient = gradient(&weights, batch);
                mean.iter_mut().zip(gradient).for_each(|(mean, g)| *mean += g / group.len() as f64);
            }
            let norm = mean.iter().map(|g| g * g).sum::<f64>().sqrt();
            // torch: total_norm, then max_norm / (total_norm + 1e-6), at most 1.
            let factor = clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0));
            weights.iter_mut().zip(&mean).for_each(|(weight, g)| *weight -= LR * factor * g);
        }
    }
    weights
}

/// A loader of these batches.
struct Fixed {
    batches: Vec<Vec<Sample>>,
    next: usize,
}

impl Stateful for Fixed {}

impl Loader for Fixed {
    fn epoch_length(&self) -> Option<usize> {
        Some(self.batches.len())
    }

    fn start_epoch(&mut self, _epoch: usize, first_batch: usize) -> Result<()> {
        self.next = first_batch;
        Ok(())
    }

    fn last_batch(&mut self) -> Result<Batch> {
        anyhow::bail!("no test goes on inside an iteration")
    }

    fn next_batch(&mut self) -> Result<Option<Batch>> {
        let Some(samples) = self.batches.get(self.next) else { return Ok(None) };
        let mut batch = Batch::new(samples.len());
        let features: Vec<f32> = samples.iter().flat_map(|(x, _)| x.iter().map(|v| *v as f32)).collect();
        let features = Tensor::from_slice(&features).view([-1, FEATURES as i64]);
        let labels: Vec<i64> = samples.iter().map(|(_, class)| *class as i64).collect();
        batch.set(fields::IMAGE, BatchField::Stacked(features));
        batch.set(fields::LABEL, BatchField::Stacked(Tensor::from_slice(&labels)));
        let names = (0..samples.len()).map(|i| format!("batch_{}/image_{i}.png", self.next)).collect();
        batch.set(fields::SOURCE, BatchField::Text(names));
        self.next += 1;
        Ok(Some(batch))
    }
}

/// Calls a function on an event.
struct Do<F>(F);

impl<F> Stateful for Do<F> {}

impl<F: FnMut(&EventContext<'_>)> Handler for Do<F> {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        (self.0)(ctx);
        Ok(())
    }
}

/// A trainer of the linear model.
struct Training {
    test: TestRun,
    model: Shared<dyn Model>,
    engine: Rc<Engine>,
}

impl Training {
    fn new(options: Value, batches: Vec<Vec<Sample>>) -> Training {
        let test = TestRun::new();
        test.add("loader.train", Instance::loader(Fixed { batches: batches.clone(), next: 0 }));
        test.add("loader.test", Instance::loader(Fixed { batches, next: 0 }));
        let layers = json!([{ "type": "linear", "in_features": FEATURES, "out_features": CLASSES }]);
        let Instance::Model(model) =
            test.try_build("model.net", json!({ "type": "sequential", "layers": layers })).unwrap()
        else {
            panic!("no model")
        };
        let first = first_weights();
        let (weights, biases) = first.split_at(CLASSES * FEATURES);
        let float = |values: &[f64]| Tensor::from_slice(&values.iter().map(|v| *v as f32).collect::<Vec<_>>());
        let mut state = State::default();
        state.tensors.insert("0.weight".into(), float(weights).view([CLASSES as i64, FEATURES as i64]));
        state.tensors.insert("0.bias".into(), float(biases));
        model.borrow_mut().load_state(&state).unwrap();
        test.optimizer("optimizer.sgd", json!({ "type": "sgd", "model": "model.net", "lr": LR }));
        let mut table = json!({
            "type": "train", "model": "model.net", "optimizer": "optimizer.sgd", "loader": "loader.train", "log_interval": 1,
        });
        table.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let engine = engine(&test, "engine.trainer", table);
        Training { test, model, engine }
    }

    /// Adds the evaluator, whose metric is named `metric.accuracy`.
    fn evaluator(&self) -> Rc<Engine> {
        self.test.try_build("metric.accuracy", json!({ "type": "accuracy" })).unwrap();
        let options = json!({ "type": "evaluate", "model": "model.net", "loader": "loader.test", "metrics": ["metric.accuracy"] });
        engine(&self.test, "engine.evaluator", options)
    }

    fn on(&self, wires: Vec<Wire>) {
        *self.test.graph.events.borrow_mut() = Rc::new(EventTable { wires });
    }

    /// Sends Ctrl-C after the iteration of that number of an engine.
    fn interrupt(&self, engine: &str, iteration: u64) -> Wire {
        let act = move |ctx: &EventContext<'_>| {
            if ctx.count == iteration {
                ctx.run.interrupt.store(true, Ordering::SeqCst);
            }
        };
        wire(engine, EngineEvent::IterationCompleted.name(), vec![call("handler.ctrl_c", act)])
    }

    fn drive(&self) -> ControlFlow<pipe_core::Interrupted> {
        self.test.graph.drive(&self.engine).unwrap()
    }

    fn error(&self) -> String {
        format!("{:#}", self.test.graph.drive(&self.engine).unwrap_err())
    }

    fn weights(&self) -> Vec<f64> {
        let state = self.model.borrow().state().unwrap();
        let values = |name: &str| Vec::<f64>::try_from(state.tensors[name].flatten(0, -1).to_kind(tch::Kind::Double));
        [values("0.weight").unwrap(), values("0.bias").unwrap()].concat()
    }

    /// What a checkpoint would hold.
    fn saved(&self) -> Vec<(String, State)> {
        let nodes = self.test.graph.nodes.borrow();
        nodes.iter().map(|(id, instance)| (id.to_string(), stored(&instance.state().unwrap()))).collect()
    }

    fn resume(&self, saved: &[(String, State)]) {
        for (id, state) in saved {
            self.test.graph.node(&id.parse().unwrap()).unwrap().load_state(state).unwrap();
        }
    }

    fn records(&self) -> String {
        self.test.run.folder.flush_records().unwrap();
        std::fs::read_to_string(self.test.run.folder.records_path()).unwrap()
    }
}

fn engine(test: &TestRun, node: &str, table: Value) -> Rc<Engine> {
    match test.try_build(node, table).unwrap() {
        Instance::Engine(engine) => engine,
        _ => panic!("{node} is no engine"),
    }
}

fn call(node: &str, act: impl FnMut(&EventContext<'_>) + 'static) -> Target {
    let Instance::Handler(handler) = Instance::handler(Do(act)) else { panic!("no handler") };
    Target { node: node.parse().unwrap(), action: TargetAction::Call(handler) }
}

fn wire(engine: &str, event: &str, targets: Vec<Target>) -> Wire {
    Wire::new(vec![(engine.parse().unwrap(), event.to_owned())], Filter::default(), targets)
}

#[test]
fn gradients_of_a_group_of_batches_are_averaged() {
    for accumulate in 1..=6 {
        let training = Training::new(json!({ "max_epochs": 3, "accumulate": accumulate }), batches());
        assert!(training.drive().is_continue());
        // Five batches: the last group of each epoch is smaller for 2, 3, 4 and 6, and takes nothing from the next epoch.
        let expected = by_hand(3, accumulate, None, &batches());
        assert_close(&format!("accumulate = {accumulate}"), &training.weights(), &expected, 2e-6);
    }
    let apart = |a: usize, b: usize| {
        let (a, b) = (by_hand(3, a, None, &batches()), by_hand(3, b, None, &batches()));
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    assert!((1..=4).all(|group| apart(group, group + 1) > 1e-3), "the numbers tell the groups apart");
}

/// One batch an epoch: its gradient averaged over one batch is itself.
#[test]
fn a_single_batch_makes_a_whole_step() {
    let weights = |accumulate: u64| {
        let training = Training::new(json!({ "max_epochs": 3, "accumulate": accumulate }), batches()[..1].to_vec());
        assert!(training.drive().is_continue());
        training.weights()
    };
    assert_eq!(weights(1), weights(4));
}

#[test]
fn gradients_are_clipped_by_the_formula_of_torch() {
    // Below every norm, between them, above.
    for (clip, accumulate) in [(0.05, 1), (0.4, 1), (0.4, 2), (1e3, 1)] {
        let options = json!({ "max_epochs": 2, "clip_grad_norm": clip, "accumulate": accumulate });
        let training = Training::new(options, batches());
        assert!(training.drive().is_continue());
        let expected = by_hand(2, accumulate, Some(clip), &batches());
        assert_close(&format!("clip {clip}, accumulate {accumulate}"), &training.weights(), &expected, 2e-6);
        let free = by_hand(2, accumulate, None, &batches());
        let moved = expected.iter().zip(&free).any(|(a, b)| (a - b).abs() > 1e-3);
        assert_eq!(moved, clip < 1.0);
    }
}

#[test]
fn an_interruption_among_the_batches_of_a_step_loses_nothing() {
    let options = json!({ "max_epochs": 2, "accumulate": 2 });
    let whole = Training::new(options.clone(), batches());
    assert!(whole.drive().is_continue());
    for iteration in 1..=10 {
        let cut = Training::new(options.clone(), batches());
        cut.on(vec![cut.interrupt("engine.trainer", iteration)]);
        let flow = cut.drive();
        let state = cut.engine.current();
        assert_eq!(state.iteration, iteration, "{state:?}");
        let resumed = Training::new(options.clone(), batches());
        resumed.resume(&cut.saved());
        if flow.is_break() {
            assert!(resumed.drive().is_continue());
        }
        assert_eq!(resumed.weights(), whole.weights(), "Ctrl-C in iteration {iteration}");
    }
}

/// An evaluation inside a group of batches that is cut off, and a checkpoint there: the gradients that wait are not lost.
#[test]
fn a_resume_inside_a_group_has_its_gradients() {
    let options = json!({ "max_epochs": 2, "accumulate": 3 });
    let whole = Training::new(options.clone(), batches());
    assert!(whole.drive().is_continue());
    for evaluation in 1..=10 {
        let cut = Training::new(options.clone(), batches());
        let evaluator = cut.evaluator();
        let run = Target { node: evaluator.id.clone(), action: TargetAction::Run(evaluator.clone()) };
        let mut runs = 0;
        let ctrl_c = call("handler.ctrl_c", move |ctx| {
            runs += 1;
            if runs == evaluation {
                ctx.run.interrupt.store(true, Ordering::SeqCst);
            }
        });
        cut.on(vec![
            wire("engine.trainer", EngineEvent::IterationCompleted.name(), vec![run]),
            wire("engine.evaluator", EngineEvent::Started.name(), vec![ctrl_c]),
        ]);
        assert!(cut.drive().is_break());
        let resumed = Training::new(options.clone(), batches());
        resumed.evaluator();
        resumed.resume(&cut.saved());
        assert!(resumed.drive().is_continue());
        assert_eq!(resumed.weights(), whole.weights(), "Ctrl-C in evaluation {evaluation}");
    }
    for iteration in 1..=10 {
        let run = Training::new(options.clone(), batches());
        let taken = Rc::new(RefCell::new(Vec::new()));
        let (graph, into) = (run.test.graph.clone(), taken.clone());
        let save = call("handler.save", move |ctx| {
            if ctx.count == iteration {
                let nodes = graph.nodes.borrow();
                let states = nodes.iter().map(|(id, node)| (id.to_string(), stored(&node.state().unwrap())));
                *into.borrow_mut() = states.collect();
            }
        });
        run.on(vec![wire("engine.trainer", EngineEvent::IterationCompleted.name(), vec![save])]);
        assert!(run.drive().is_continue());
        let resumed = Training::new(options.clone(), batches());
        resumed.resume(&taken.borrow());
        assert!(resumed.drive().is_continue());
        assert_eq!(resumed.weights(), whole.weights(), "a checkpoint after iteration {iteration}");
    }
}

/// An evaluation that no event runs, interrupted: its numbers are those of the whole set.
#[test]
fn an_evaluation_by_itself_is_begun_anew() {
    let value = |interrupt: bool| {
        let first = Training::new(json!({ "max_epochs": 1 }), batches());
        let evaluator = first.evaluator();
        if interrupt {
            first.on(vec![first.interrupt("engine.evaluator", 2)]);
        }
        assert_eq!(first.test.graph.drive(&evaluator).unwrap().is_break(), interrupt);
        let saved = first.saved();
        if !interrupt {
            return first.test.run.values();
        }
        let second = Training::new(json!({ "max_epochs": 1 }), batches());
        let evaluator = second.evaluator();
        second.resume(&saved);
        assert!(second.test.graph.drive(&evaluator).unwrap().is_continue());
        assert_eq!(evaluator.current().iteration, 5, "every batch was seen again");
        second.test.run.values()
    };
    let whole = value(false);
    assert!(whole.iter().any(|(name, _)| name == "metric.accuracy:accuracy"), "{whole:?}");
    assert_eq!(value(true), whole);
}

/// The batches with NaN in the second image of the third batch.
fn with_nan() -> Vec<Vec<Sample>> {
    let mut all = batches();
    all[2][1].0[0] = f64::NAN;
    all
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_images() {
    let training = Training::new(json!({ "max_epochs": 1 }), with_nan());
    let error = training.error();
    assert!(error.starts_with("engine.trainer: iteration 3 of epoch 1: a loss is not finite"), "{error}");
    assert!(error.contains("cross_entropy = NaN"), "{error}");
    assert!(error.contains("batch_2/image_0.png") && error.contains("batch_2/image_1.png"), "{error}");
    assert!(!error.contains("batch_1/") && error.contains("on_non_finite = \"skip\""), "{error}");
    let good = by_hand(1, 1, None, &batches()[..2]);
    assert_close("the weights before it", &training.weights(), &good, 2e-6);
}

#[test]
fn a_loss_that_is_not_finite_is_left_out_counted_and_recorded() {
    let training = Training::new(json!({ "max_epochs": 2, "on_non_finite": "skip" }), with_nan());
    assert!(training.drive().is_continue());
    assert_eq!(training.engine.current().iteration, 10);
    let mut sound = with_nan();
    sound.remove(2);
    assert_close("without that batch", &training.weights(), &by_hand(2, 1, None, &sound), 2e-6);
    let state = training.engine.state(false).unwrap();
    assert_eq!(state.values["process"]["skipped"], 2, "one an epoch");
    let records = training.records();
    let skipped: Vec<Value> = records
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record["tag"] == "train/skipped")
        .collect();
    assert_eq!(skipped.iter().map(|record| record["step"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 8]);
    assert!(skipped[0]["value"].as_str().unwrap().contains("batch_2/image_1.png"), "{skipped:?}");
    let resumed = Training::new(json!({ "max_epochs": 3, "on_non_finite": "skip" }), with_nan());
    resumed.resume(&training.saved());
    assert!(resumed.drive().is_continue());
    assert_eq!(resumed.engine.state(false).unwrap().values["process"]["skipped"], 3, "a resume goes on counting");
}

#[test]
fn an_engine_ends_at_the_first_of_its_limits() {
    for (options, iterations, epochs) in [
        (json!({ "max_iterations": 7 }), 7, 2),
        (json!({ "max_epochs": 3, "max_iterations": 7 }), 7, 2),
        (json!({ "max_epochs": 1, "max_iterations": 7 }), 5, 1),
        (json!({ "max_epochs": 3, "epoch_length": 2 }), 6, 3),
        (json!({ "max_epochs": 2, "epoch_length": 50 }), 100, 2),
        (json!({ "max_iterations": 5, "epoch_length": 2 }), 5, 3),
    ] {
        let training = Training::new(options.clone(), batches());
        let steps = Rc::new(RefCell::new(0));
        let into = steps.clone();
        let count = call("handler.count", move |_| *into.borrow_mut() += 1);
        training.on(vec![wire("engine.trainer", EngineEvent::IterationCompleted.name(), vec![count])]);
        assert!(training.drive().is_continue());
        let state = training.engine.current();
        assert_eq!((state.iteration, state.epoch, *steps.borrow()), (iterations, epochs, iterations), "{options}");
    }
    // Where an epoch is shorter than the data, the next goes on with them, as in Ignite.
    let training = Training::new(json!({ "max_epochs": 3, "epoch_length": 2 }), batches());
    assert!(training.drive().is_continue());
    assert_close(
        "short epochs",
        &training.weights(),
        &by_hand(1, 1, None, &[batches(), batches()[..1].to_vec()].concat()),
        2e-6,
    );
}
