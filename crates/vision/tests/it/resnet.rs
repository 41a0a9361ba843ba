//! Classifiers against torchvision's, with weights and images from an integer hash (`tests/parity/resnet/make.py`).

use std::process::Command;

use anyhow::Result;
use pipe_vision::nn::{NormKind, ParameterStore};
use pipe_vision::{MobileNetV3, ResNet, ResNetKind, Vgg};
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
    let network = ResNet::new(kind, 5, NormKind::Batch, Device::Cpu).expect("a network");
    compare_with(name, network.store(), |images, train| network.forward(images, train), "layer2.0.bn1.running_mean");
}

fn compare_with(
    name: &str,
    store: &ParameterStore,
    forward: impl Fn(&Tensor, bool) -> Result<Tensor>,
    running_mean: &str,
) {
    let expected = &expected("resnet/expected")[name];
    fill(store);
    assert_eq!(store.names().len() as u64, expected["names"].as_u64().expect("a count"));
    let images = noise(3, 2 * 3 * 64 * 48).reshape([2, 3, 64, 48]);
    let logits = no_grad(|| forward(&images, false)).expect("logits");
    assert_close("logits in evaluation", &logits, &expected["logits"], 1e-4);
    let logits = forward(&images, true).expect("logits");
    // With norms over few values, other kernels than those of the stored numbers (AVX2, AVX-512) are this far off, torchvision's too.
    assert_close("logits in training", &logits, &expected["train_logits"], 1e-3);
    let labels = Tensor::from_slice(&[1i64, 3]);
    let loss = logits.cross_entropy_loss(&labels, None::<Tensor>, Reduction::Mean, -100, 0.0);
    assert_close("loss", &loss, &expected["loss"], 1e-3);
    loss.backward();
    for (parameter, sum) in expected["gradients"].as_object().expect("gradients") {
        let gradient = store.get(parameter).expect("a parameter").grad();
        assert_close(parameter, &gradient.to_kind(Kind::Double).abs().sum(Kind::Double), sum, 1e-2);
    }
    let mean = store.get(running_mean).expect("a buffer");
    assert_close("running mean", &mean.to_kind(Kind::Double).sum(Kind::Double), &expected["running_mean"], 1e-4);
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

#[test]
fn vgg_is_torchvision_s() {
    let network = Vgg::new("vgg11_bn".parse().expect("a kind"), 5, 0.0, Device::Cpu).expect("a network");
    compare_with(
        "vgg11_bn",
        network.store(),
        |images, train| network.forward(images, train),
        "features.5.running_mean",
    );
}

#[test]
fn mobile_nets_are_torchvision_s() {
    for name in ["mobilenet_v3_large", "mobilenet_v3_small"] {
        let network = MobileNetV3::new(name.parse().expect("a kind"), 5, 0.0, Device::Cpu).expect("a network");
        let mean = "features.7.block.0.1.running_mean";
        compare_with(name, network.store(), |images, train| network.forward(images, train), mean);
    }
}

/// torch's generator is one for the process, and other tests draw from it: this one runs in a process of its own.
#[test]
fn one_seed_gives_torchvisions_weights() {
    let alone = ["--exact", "resnet::seeded_alone", "--ignored"];
    let alone = Command::new(std::env::current_exe().expect("this test")).args(alone).output().expect("it runs");
    let text = String::from_utf8_lossy(&alone.stdout);
    assert!(alone.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by one_seed_gives_torchvisions_weights"]
fn seeded_alone() {
    let expected = expected("resnet/expected");
    let check = |name: &str, store: &ParameterStore| {
        let sums = store.state_dict().into_values().map(|tensor| tensor.to_kind(Kind::Double).sum(Kind::Double));
        let sum: f64 = sums.map(|sum| sum.double_value(&[])).sum();
        let wanted = expected[name]["seeded"].as_f64().expect("a number");
        assert!((sum - wanted).abs() < 1e-6 * wanted.abs(), "{name}: {sum}, torchvision {wanted}");
    };
    tch::manual_seed(42);
    check("vgg11_bn", Vgg::new("vgg11_bn".parse().expect("a kind"), 5, 0.0, Device::Cpu).expect("a network").store());
    for name in ["mobilenet_v3_large", "mobilenet_v3_small"] {
        tch::manual_seed(42);
        check(name, MobileNetV3::new(name.parse().expect("a kind"), 5, 0.0, Device::Cpu).expect("a network").store());
    }
}
