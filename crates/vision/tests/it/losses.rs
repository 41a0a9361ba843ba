//! Losses of detectors against torchvision's, with their gradients (`tests/parity/losses/make.py`).

use pipe_vision::losses::{generalized_iou, sigmoid_focal};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::common::{assert_near, doubles, expected, floats};

fn wave(shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>();
    let wave = (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.7 + 0.3).sin() * 4.0;
    wave.view(shape).set_requires_grad(true)
}

fn assert_loss(what: &str, loss: &Tensor, inputs: &[&Tensor], wanted: &Value) {
    assert_near(what, &doubles(loss), &floats(&wanted["loss"]), 1e-9, 1e-9);
    loss.sum(Kind::Double).backward();
    for (input, wanted) in inputs.iter().zip(wanted["gradients"].as_array().unwrap()) {
        assert_near(&format!("gradient of {what}"), &doubles(&input.grad()), &floats(wanted), 1e-9, 1e-9);
    }
}

#[test]
fn focal_loss_is_that_of_torchvision() {
    let expected = &expected("losses/expected")["sigmoid_focal_loss"];
    let targets = Tensor::from_slice(&floats(&expected["targets"])).view([6, 4]);
    let logits = wave(&[6, 4]);
    assert_loss("focal loss", &sigmoid_focal(&logits, &targets).unwrap(), &[&logits], expected);
}

#[test]
fn giou_loss_is_that_of_torchvision() {
    let expected = &expected("losses/expected")["generalized_box_iou_loss"];
    let boxes = |name: &str| {
        let rows: Vec<f64> = expected[name].as_array().unwrap().iter().flat_map(floats).collect();
        Tensor::from_slice(&rows).view([-1, 4]).set_requires_grad(true)
    };
    let (a, b) = (boxes("a"), boxes("b"));
    assert_loss("1 - GIoU", &generalized_iou(&a, &b).unwrap(), &[&a, &b], expected);
}
