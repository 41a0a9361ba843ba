//! Classifiers against torchvision's, with weights and images from an integer hash (`tests/parity/resnet/make.py`).

use pipe_vision::nn::NormKind;
use pipe_vision::{ResNet, ResNetKind};
use serde_json::Value;
use tch::{Device, Kind, Reduction, Tensor, no_grad};

use crate::common::{expected, fill, noise};

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

fn assert_close(what: &str, got: &Tensor, expected: &Value, tolerance: f64) {
    let got: Vec<f64> = Vec::try_from(got.detach().to_kind(Kind::Double).flatten(0, -1)).expect("numbers");
    let expected = numbers(expected);
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(&expected) {
        let gap = (got - expected).abs() / expected.abs().max(1.0);
        assert!(gap < tolerance, "{what}: got {got}, torchvision has {expected}");
    }
}

fn compare(kind: ResNetKind, name: &str) {
    let expected = &expected("resnet/expected")[name];
    let network = ResNet::new(kind, 5, NormKind::Batch, Device::Cpu).expect("a network");
    fill(network.store());
    assert_eq!(network.store().names().len() as u64, expected["names"].as_u64().expect("a count"));
    let images = noise(3, 2 * 3 * 64 * 48).reshape([2, 3, 64, 48]);
    let logits = no_grad(|| network.forward(&images, false)).expect("logits");
    assert_close("logits in evaluation", &logits, &expected["logits"], 1e-4);
    let logits = network.forward(&images, true).expect("logits");
    assert_close("logits in training", &logits, &expected["train_logits"], 1e-4);
    let labels = Tensor::from_slice(&[1i64, 3]);
    let loss = logits.cross_entropy_loss(&labels, None::<Tensor>, Reduction::Mean, -100, 0.0);
    assert_close("loss", &loss, &expected["loss"], 1e-4);
    loss.backward();
    for (parameter, sum) in expected["gradients"].as_object().expect("gradients") {
        let gradient = network.store().get(parameter).expect("a parameter").grad();
        assert_close(parameter, &gradient.to_kind(Kind::Double).abs().sum(Kind::Double), sum, 1e-3);
    }
    let mean = network.store().get("layer2.0.bn1.running_mean").expect("a buffer");
    assert_close("running mean", &mean.to_kind(Kind::Double).sum(Kind::Double), &expected["running_mean"], 1e-5);
}

#[test]
fn resnet_18_is_torchvision_s() {
    compare(ResNetKind::ResNet18, "resnet18");
}

#[test]
fn resnet_50_is_torchvision_s() {
    compare(ResNetKind::ResNet50, "resnet50");
}

#[test]
fn a_resnext_is_torchvision_s() {
    compare(ResNetKind::ResNext50_32x4d, "resnext50_32x4d");
}
