use pipe_data::{BatchField, fields};
use pipe_run::testing::{TestRun, stored};
use serde_json::json;
use tch::Device;

use super::*;

fn train(test: &TestRun, settings: serde_json::Value) -> Train {
    let layers = json!([
        { "type": "batch_norm2d", "num_features": 2 }, { "type": "flatten" },
        { "type": "linear", "in_features": 8, "out_features": 3 },
    ]);
    let model = test.try_build("model.net", json!({ "type": "sequential", "layers": layers })).unwrap();
    let Instance::Model(model) = model else { panic!("no model") };
    let optimizer = test.optimizer("optimizer.sgd", json!({ "type": "sgd", "model": "model.net", "lr": 0.1 }));
    let mut table = json!({ "model": "model.net", "optimizer": "optimizer.sgd", "loader": "loader.train" });
    table.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let config = serde_json::from_value(table).unwrap();
    let id = "engine.trainer".parse().unwrap();
    let settings = super::settings(&config);
    Train {
        id,
        config,
        model,
        optimizer,
        scaler: None,
        pending: 0,
        restored: None,
        losses: Vec::new(),
        skipped: 0,
        settings,
        together: Together::default(),
    }
}

fn batch(pixel: f64, label: i64) -> Batch {
    let mut batch = Batch::new(2);
    let images = Tensor::arange(16, (Type::Float, Device::Cpu)).reshape([2, 2, 2, 2]);
    let _ = images.get(1).get(0).get(0).get(0).fill_(pixel);
    batch.set(fields::IMAGE, BatchField::Stacked(images));
    batch.set(fields::LABEL, BatchField::Stacked(Tensor::from_slice(&[0, label])));
    batch.set(fields::SOURCE, BatchField::Text(vec!["a.png".into(), "b.png".into()]));
    batch
}

#[test]
fn a_batch_that_is_left_out_leaves_no_trace_in_the_model() {
    let test = TestRun::new();
    let mut train = train(&test, json!({ "on_non_finite": "skip" }));
    let state = EngineState::default();
    train.step(batch(1.0, 2), &state, &test.run).unwrap();
    let before = stored(&train.model.borrow().state().unwrap());
    assert_ne!(before.tensors["0.running_mean"].double_value(&[0]), 0.0, "running statistics follow a batch");
    let step = train.step(batch(f64::NAN, 2), &state, &test.run).unwrap();
    assert_eq!((step.backward, train.skipped), (false, 1));
    let after = train.model.borrow().state().unwrap();
    for (name, tensor) in &before.tensors {
        assert_eq!(tensor, &after.tensors[name], "{name}");
    }
    let step = train.step(batch(1.0, 2), &state, &test.run).unwrap();
    assert!(step.backward && train.losses[0].1.is_finite(), "{:?}", train.losses);
}

#[test]
fn a_label_that_the_model_does_not_know_is_named_before_the_step() {
    let test = TestRun::new();
    let mut train = train(&test, json!({}));
    let error = train.step(batch(1.0, 3), &EngineState::default(), &test.run).err().unwrap().to_string();
    assert!(error.starts_with("b.png (image 1 of the batch) has label 3, but the model has 3 classes"), "{error}");
    assert!(error.contains("out_features"), "{error}");
    let error = train.rehearse(batch(1.0, 3), &test.run).unwrap_err().to_string();
    assert!(error.starts_with("b.png"), "{error}");
}
