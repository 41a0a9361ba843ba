//! nms and roi_align against torchvision, and roi_align's gradient against differences.

use pipe_native::ops::{batched_nms, nms, roi_align, roi_align_ordered};
use tch::{Device, Kind, Tensor};

use crate::{Parity, difference};

const CASES: [(f64, i64, i64, i64, bool); 4] =
    [(0.5, 3, 4, 2, true), (0.5, 7, 7, 0, false), (0.25, 2, 2, -1, true), (1.0, 3, 2, 3, false)];

#[test]
fn roi_align_is_torchvisions_in_both_directions() {
    let parity = Parity::read("ops.safetensors");
    for (i, (scale, h, w, ratio, aligned)) in CASES.into_iter().enumerate() {
        let x = parity.get("roi.input").copy().set_requires_grad(true);
        let y = roi_align(&x, &parity.get("roi.boxes"), scale, h, w, ratio, aligned).unwrap();
        assert!(difference(&y, &parity.get(&format!("roi.{i}.out"))) < 2e-6, "case {i}");
        (&y * parity.get(&format!("roi.{i}.weight"))).sum(Kind::Float).backward();
        assert!(difference(&x.grad(), &parity.get(&format!("roi.{i}.grad"))) < 1e-5, "case {i}");
    }
}

#[test]
fn summed_in_order_the_gradient_is_the_same() {
    let parity = Parity::read("ops.safetensors");
    for (i, (scale, h, w, ratio, aligned)) in CASES.into_iter().enumerate() {
        let x = parity.get("roi.input").copy().set_requires_grad(true);
        let y = roi_align_ordered(&x, &parity.get("roi.boxes"), scale, (h, w), ratio, aligned).unwrap();
        assert!(difference(&y, &parity.get(&format!("roi.{i}.out"))) < 2e-6, "case {i}");
        (&y * parity.get(&format!("roi.{i}.weight"))).sum(Kind::Float).backward();
        assert!(difference(&x.grad(), &parity.get(&format!("roi.{i}.grad"))) < 1e-5, "case {i}");
    }
}

#[test]
fn roi_align_has_the_gradient_of_its_differences() {
    let parity = Parity::read("ops.safetensors");
    let boxes = parity.get("roi.boxes").to_kind(Kind::Double);
    let input = parity.get("roi.input").to_kind(Kind::Double);
    let run = |x: &Tensor| roi_align(x, &boxes, 0.5, 3, 4, 2, true).unwrap();
    let weight = parity.get("roi.0.weight").to_kind(Kind::Double);
    let x = input.copy().set_requires_grad(true);
    let grad = Tensor::run_backward(&[(run(&x) * &weight).sum(Kind::Double)], &[&x], false, true).remove(0);
    // The operator is linear, so one difference along a direction is exact up to rounding.
    let direction = (input.copy() * 37.0).sin();
    let along = |t: &Tensor| f64::try_from((t * &direction).sum(Kind::Double)).unwrap();
    let loss = |x: &Tensor| f64::try_from((run(x) * &weight).sum(Kind::Double)).unwrap();
    let slope = (loss(&(&input + &direction)) - loss(&(&input - &direction))) / 2.0;
    assert!((along(&grad) - slope).abs() < 1e-9 * slope.abs().max(1.0), "{} {slope}", along(&grad));
}

#[test]
fn the_gradient_of_the_gradient_is_the_operator() {
    let parity = Parity::read("ops.safetensors");
    let boxes = parity.get("roi.boxes");
    let x = parity.get("roi.input").copy().set_requires_grad(true);
    let upstream = parity.get("roi.0.weight").copy().set_requires_grad(true);
    let y = roi_align(&x, &boxes, 0.5, 3, 4, 2, true).unwrap();
    let grad = Tensor::run_backward(&[(&y * &upstream).sum(Kind::Float)], &[&x], true, true).remove(0);
    // d/du sum(grad · x) is roi_align(x).
    let again = Tensor::run_backward(&[(&grad * x.detach()).sum(Kind::Float)], &[&upstream], false, false).remove(0);
    assert!(difference(&again, &y.detach()) < 1e-5);
}

#[test]
fn roi_align_is_the_same_on_every_run_and_in_half_types_close() {
    let x = Tensor::arange(2 * 16 * 32 * 32, (Kind::Float, Device::Cpu)).view([2, 16, 32, 32]).sin();
    let k = Tensor::arange(200, (Kind::Float, Device::Cpu));
    let corner = (&k * 1.7).sin().abs() * 90.0;
    let size = (&k * 0.3).cos().abs() * 60.0 + 2.0;
    let boxes = Tensor::stack(&[k.remainder(2.0), corner.copy(), &corner * 0.5, &corner + &size, &corner + &size], 1);
    let run = |kind| {
        let x = x.to_kind(kind).copy().set_requires_grad(true);
        let y = roi_align(&x, &boxes, 0.25, 7, 7, 2, true).unwrap();
        y.square().sum(Kind::Float).backward();
        (y.detach(), x.grad())
    };
    let (first, again, half) = (run(Kind::Float), run(Kind::Float), run(Kind::BFloat16));
    assert_eq!(first, again);
    assert_eq!(half.0.kind(), Kind::BFloat16);
    assert!(difference(&first.0, &half.0) < 0.02);
}

#[test]
fn roi_align_takes_no_boxes_and_refuses_wrong_ones() {
    let x = Tensor::ones([1, 2, 8, 8], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let none = Tensor::zeros([0, 5], (Kind::Float, Device::Cpu));
    let y = roi_align(&x, &none, 1.0, 7, 7, 2, true).unwrap();
    assert_eq!(y.size(), [0, 2, 7, 7]);
    y.sum(Kind::Float).backward();
    assert_eq!(difference(&x.grad(), &Tensor::zeros([1, 2, 8, 8], (Kind::Float, Device::Cpu))), 0.0);

    let message = |boxes: &Tensor| format!("{:#}", roi_align(&x, boxes, 1.0, 7, 7, 0, true).unwrap_err());
    assert!(message(&Tensor::from_slice(&[1f32, 0., 0., 4., 4.]).view([1, 5])).contains("image 1 of a batch of 1"));
    assert!(message(&Tensor::from_slice(&[0f32, 0., 0., f32::INFINITY, 4.]).view([1, 5])).contains("not finite"));
    assert!(message(&Tensor::zeros([3, 4], (Kind::Float, Device::Cpu))).contains("[K, 5]"));
}

#[test]
fn nms_keeps_what_torchvision_keeps() {
    let parity = Parity::read("ops.safetensors");
    let get = |name: &str| parity.get(&format!("nms.{name}"));
    assert_eq!(nms(&get("few.boxes"), &get("few.scores"), 0.5).unwrap(), get("few.plain"));
    // `many` is over the bound where torchvision goes class by class.
    for name in ["few", "many"] {
        let [boxes, scores, classes] = ["boxes", "scores", "classes"].map(|part| get(&format!("{name}.{part}")));
        let kept = batched_nms(&boxes, &scores, &classes, 0.5).unwrap();
        let wanted = get(&format!("{name}.batched"));
        assert_eq!(scores.index_select(0, &kept), scores.index_select(0, &wanted), "{name}");
        assert_eq!(kept.sort(0, false).0, wanted.sort(0, false).0, "{name}");
    }
    let none = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
    let empty = Tensor::zeros([0], (Kind::Float, Device::Cpu));
    assert_eq!(batched_nms(&none, &empty, &empty.to_kind(Kind::Int64), 0.5).unwrap().size(), [0]);
    assert!(batched_nms(&get("few.boxes"), &empty, &empty, 0.5).unwrap_err().to_string().contains("[N, 4]"));
}
