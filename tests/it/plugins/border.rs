//! What crosses the border is the same on both sides, and what goes wrong there is an error.

use pipe_core::Instance;
use pipe_core::{Kind, Problems};
use pipe_core::{Model, ModelOutput, State};
use pipe_data::{Batch, BatchField, Sample, fields};
use pipe_data::{random::Purpose, random::stream};
use pipe_plugin::Transform as _;
use pipe_plugin::testing::sample;
use pipe_test_plugin::Brighten;
use rand::Rng;
use serde_json::json;
use tch::{Reduction, Tensor};

use super::{Bench, component, library, turn};

#[test]
fn a_transform_does_the_same_loaded_as_called_directly() {
    let _turn = turn();
    assert!(component(Kind::Transform, "test_brighten").plugin.as_ref().expect("a plugin").library.is_some());
    let loaded = Bench::new().transform("test_brighten", json!({ "by": 3, "jitter": 100 })).unwrap();
    let direct = Brighten { by: 3, jitter: 100, fault: None };
    let input = || sample(7, 9, &[[1.0, 2.0, 5.0, 6.0], [0.0, 0.0, 2.0, 2.0]]);
    for index in 0..5 {
        let mut streams = [0, 1].map(|_| stream(1, Purpose::Sample, 0, index));
        let [a, b] = &mut streams;
        // A stream that is already under way goes on where it stands.
        assert_eq!(a.random::<u32>(), b.random::<u32>());
        let (left, right) = (loaded.apply(input(), a).unwrap(), direct.apply(input(), b).unwrap());
        assert_eq!(left, right);
        assert_ne!(left, input());
        assert_eq!(a.random::<u64>(), b.random::<u64>(), "the stream goes on behind it");
    }
    let batch = vec![input(), Sample::new()];
    assert_eq!(loaded.apply_batch(batch.clone(), &mut stream(1, Purpose::Batch, 0, 0)).unwrap(), batch);
}

#[test]
fn a_panic_is_an_error_that_names_plugin_node_and_place() {
    let _turn = turn();
    let bench = Bench::new();
    let apply = |fault: &str| {
        let transform = bench.transform("test_brighten", json!({ "by": 1, "fault": fault })).unwrap();
        let error = transform.apply(sample(4, 4, &[]), &mut stream(1, Purpose::Sample, 0, 0)).unwrap_err();
        // It can be called again.
        transform.apply(sample(4, 4, &[]), &mut stream(1, Purpose::Sample, 0, 0)).unwrap_err();
        format!("{error:#}")
    };
    let said = apply("panic");
    let expected = "transform.test (plugin pipe-test-plugin 0.1.0) panicked: this transform panics (";
    assert!(said.starts_with(expected) && said.contains("data.rs:"), "{said}");
    assert_eq!(apply("error"), "transform.test (plugin pipe-test-plugin 0.1.0): this transform fails");

    let brighten = component(Kind::Transform, "test_brighten");
    let said = brighten.parse(json!({ "fault": "check" })).err().expect("refused").message;
    assert!(said.starts_with("plugin pipe-test-plugin 0.1.0 panicked: checked in vain ("), "{said}");
    let error = brighten.parse(json!({ "by": 300 })).err().expect("refused");
    assert_eq!((error.path, error.message.contains("300")), (vec!["by".to_owned()], true));
    let mut problems = Problems::default();
    brighten.parse(json!({ "fault": "odd" })).expect("read").check(&mut problems);
    assert_eq!(problems.found[0].path, ["fault"]);
}

#[test]
fn nothing_is_held_when_everything_was_dropped() {
    let _turn = turn();
    let held = || pipe_run::plugins::load(&library("pipe_test_plugin")).unwrap().plugin.held().unwrap();
    // The answer to the question is the one reply that is held meanwhile; earlier tests may have left thread-owned ones.
    let before = held();
    {
        let bench = Bench::new();
        let transform = bench.transform("test_brighten", json!({ "fault": "panic" })).unwrap();
        assert_eq!(held().0, before.0 + 1);
        for _ in 0..100 {
            transform.apply(sample(4, 4, &[]), &mut stream(1, Purpose::Sample, 0, 0)).unwrap_err();
        }
        bench.build("model.line", "test_line", json!({ "inputs": 4, "classes": 2 })).unwrap();
        assert_eq!(held().0, before.0 + 2);
    }
    assert_eq!(held(), before);
}

fn batch() -> Batch {
    let mut batch = Batch::new(3);
    let images = Tensor::arange(12, (tch::Kind::Uint8, tch::Device::Cpu)).view([3, 1, 2, 2]);
    batch.set(fields::IMAGE, BatchField::Stacked(images));
    batch.set(fields::LABEL, BatchField::Stacked(Tensor::from_slice(&[0i64, 1, 1])));
    batch.set(fields::SOURCE, BatchField::Text(vec!["a".into(), "b".into(), "c".into()]));
    batch
}

#[test]
fn a_metric_of_a_plugin_is_told_of_other_data() {
    let _turn = turn();
    let bench = Bench::new();
    let error = || match bench.build("metric.error", "test_error", json!({})).unwrap() {
        Instance::Metric(metric) => metric,
        _ => panic!("no metric"),
    };
    let seen = |likeliest: i64| {
        let (metric, mut output) = (error(), ModelOutput::default());
        let logits = Tensor::zeros([3, 2], (tch::Kind::Float, tch::Device::Cpu));
        let _ = logits.select(1, likeliest).fill_(1.0);
        output.outputs.set(fields::LOGITS, BatchField::Stacked(logits));
        metric.borrow_mut().update(&batch(), &output).unwrap();
        metric
    };
    let (one, other) = (seen(0), seen(1));
    assert!(one.borrow().merges());
    one.borrow_mut().merge(&other.borrow().state().unwrap()).unwrap();
    assert_eq!(one.borrow_mut().compute().unwrap().values, [("error".to_owned(), 0.5)]);
    let said = format!("{:#}", one.borrow_mut().merge(&State::default()).unwrap_err());
    assert!(said.starts_with("metric.error (plugin pipe-test-plugin 0.1.0): no number"), "{said}");
}

fn line(bench: &Bench, fault: bool) -> std::rc::Rc<std::cell::RefCell<dyn Model>> {
    match bench.build("model.line", "test_line", json!({ "inputs": 4, "classes": 2, "fault": fault })).unwrap() {
        Instance::Model(model) => model,
        _ => panic!("no model"),
    }
}

#[test]
fn gradients_flow_through_a_model_of_a_plugin() {
    let _turn = turn();
    let bench = Bench::new();
    let model = line(&bench, false);
    let parameters = model.borrow().parameters();
    let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fc.bias", "fc.weight"]);
    let output = model.borrow_mut().forward(&batch()).unwrap();
    output.losses["cross_entropy"].backward();

    // The same by hand, on copies.
    let copies: Vec<Tensor> = parameters.iter().map(|(_, t)| t.detach().copy().set_requires_grad(true)).collect();
    let images = batch().stacked(fields::IMAGE).unwrap().to_kind(tch::Kind::Float).flatten(1, -1) / 255.0;
    let logits = images.matmul(&copies[1].tr()) + &copies[0];
    let labels = Tensor::from_slice(&[0i64, 1, 1]);
    logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0).backward();
    for ((name, parameter), copy) in parameters.iter().zip(&copies) {
        let (got, expected) = (parameter.grad(), copy.grad());
        assert!(got.defined() && f64::try_from(expected.abs().max()).unwrap() > 0.0, "{name}");
        assert!(got.allclose(&expected, 1e-5, 1e-7, false), "{name}: {got:?} {expected:?}");
    }
    // And without them where the program asks for none.
    let quiet = tch::no_grad(|| model.borrow_mut().forward(&batch()).unwrap());
    assert!(!quiet.losses["cross_entropy"].requires_grad());

    // The state is the same storage: what an optimizer changes on this side is changed on the other.
    tch::no_grad(|| parameters.iter().for_each(|(_, t)| drop(t.shallow_clone().fill_(0.5))));
    let state = model.borrow().state().unwrap();
    assert!(state.tensors.values().all(|t| f64::try_from(t.min()).unwrap() == 0.5), "{state:?}");
    let mut wrong = state.shallow_clone();
    wrong.tensors.insert("fc.bias".into(), Tensor::zeros([9], (tch::Kind::Float, tch::Device::Cpu)));
    let error = model.borrow_mut().load_state(&wrong).unwrap_err().to_string();
    assert!(error.contains("model.line") && error.contains("`fc.bias` is of shape [2] here and Some([9])"), "{error}");
}

#[test]
fn a_model_that_panics_is_an_error_of_its_node() {
    let _turn = turn();
    let model = line(&Bench::new(), true);
    let error = model.borrow_mut().forward(&batch()).unwrap_err().to_string();
    assert!(error.starts_with("model.line (plugin pipe-test-plugin 0.1.0) panicked: this model panics"), "{error}");
}

#[test]
fn a_dataset_of_the_program_can_be_lent_to_one_of_a_plugin() {
    let _turn = turn();
    let bench = Bench::new();
    bench.build("dataset.digits", "mnist", json!({ "root": "builtin:digits", "limit": 5 })).unwrap();
    let own = bench.graph.node(&"dataset.digits".parse().unwrap()).unwrap();
    let more = bench.build("dataset.more", "test_repeat", json!({ "dataset": "dataset.digits", "times": 3 })).unwrap();
    let (Instance::Dataset(own), Instance::Dataset(more)) = (own, more) else { panic!("no datasets") };
    assert_eq!(more.len(), 15);
    // From several threads, as loaders read.
    std::thread::scope(|scope| {
        for first in 0..3 {
            let (own, more) = (&own, &more);
            scope.spawn(move || {
                (first..15).step_by(3).for_each(|i| assert_eq!(more.get(i).unwrap(), own.get(i % 5).unwrap()));
            });
        }
    });
    let error = more.get(15).unwrap_err().to_string();
    assert!(error.contains("dataset.more") && error.contains("there is no sample 15 among 15"), "{error}");
}
