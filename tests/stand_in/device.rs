//! The device itself: results are the CPU's, what mixes devices is an error.

use pipe_native::optim::{Adam, AdamState, Amp, Sgd, adamw_step, clip_grad_norm_, sgd_step};
use pipe_native::{choose_device, device_name, is_accelerator, to_device};
use pipe_vision::suppress::Candidates;
use tch::{Device, Kind, Tensor};

use crate::program::alone;

/// The stand-in's device.
pub fn device() -> Device {
    pipe_stand_in::open().expect("the stand-in opens");
    let (device, why) = choose_device("auto").expect("a device");
    assert_eq!((device, device_name(device).as_str()), (Device::Mps, "mps"), "{why}");
    assert!(is_accelerator(device) && !is_accelerator(Device::Cpu));
    device
}

fn waves(shape: &[i64], seed: f64, device: Device) -> Tensor {
    let count: i64 = shape.iter().product();
    let flat = Tensor::arange(count, (Kind::Double, Device::Cpu)) * seed;
    flat.sin().to_kind(Kind::Float).reshape(shape).to_device(device)
}

/// The loss, the gradients and the weights after a step, of a small network.
fn trained(device: Device, adam: bool) -> Vec<Tensor> {
    let weights = [
        waves(&[8, 3, 3, 3], 0.7, device),
        waves(&[8], 0.3, device),
        waves(&[8], 1.1, device),
        waves(&[5, 8 * 4 * 4], 0.9, device),
        waves(&[5], 0.2, device),
    ]
    .map(|w| w.set_requires_grad(true));
    let [kernel, scale, shift, matrix, bias] = &weights;
    let x = waves(&[4, 3, 8, 8], 1.3, device).conv2d(kernel, None::<&Tensor>, [1], [1], [1], 1);
    let x = x.batch_norm(Some(scale), Some(shift), None::<&Tensor>, None::<&Tensor>, true, 0.1, 1e-5, false);
    let x = x.relu().max_pool2d([2], [2], [0], [1], false).flatten(1, -1).linear(matrix, Some(bias));
    let labels = Tensor::from_slice(&[0i64, 4, 2, 1]).to_device(device);
    let loss = x.cross_entropy_for_logits(&labels);
    loss.backward();
    let grads = weights.each_ref().map(Tensor::grad);
    let norm = clip_grad_norm_(&grads, 0.5).unwrap();
    let zeros = || weights.iter().map(|w| w.zeros_like().detach()).collect::<Vec<_>>();
    let (first, second) = (zeros(), zeros());
    if adam {
        let steps: Vec<Tensor> = weights.iter().map(|_| Tensor::zeros([0i64; 0], (Kind::Float, device))).collect();
        let options =
            Adam { lr: 0.1, betas: (0.9, 0.99), eps: 1e-8, weight_decay: 0.1, amsgrad: false, maximize: false };
        let state = AdamState { exp_avgs: &first, exp_avg_sqs: &second, max_exp_avg_sqs: &[], steps: &steps };
        adamw_step(&weights, &grads, state, &options, Amp::default()).unwrap();
    } else {
        let (momentum, weight_decay) = (0.9, 1e-3);
        let options =
            Sgd { lr: 0.1, momentum, dampening: 0.0, weight_decay, nesterov: true, maximize: false, first_step: true };
        sgd_step(&weights, &grads, &first, &options, Amp::default()).unwrap();
    }
    let all = [loss, norm].into_iter().chain(grads).chain(weights).chain(first).chain(second);
    all.map(|t| t.detach().to_device(Device::Cpu)).collect()
}

#[test]
fn a_step_is_the_cpus_bit_for_bit() {
    let _alone = alone();
    let device = device();
    for adam in [false, true] {
        let (there, here) = (trained(device, adam), trained(Device::Cpu, adam));
        for (index, (there, here)) in there.iter().zip(&here).enumerate() {
            assert_eq!(there, here, "tensor {index}, adam {adam}");
        }
    }
}

#[test]
fn what_mixes_devices_is_an_error() {
    let _alone = alone();
    let device = device();
    let (there, here) = (waves(&[4], 0.3, device), waves(&[4], 0.5, Device::Cpu));
    let error = |result: Result<Tensor, tch::TchError>| result.expect_err("an error").to_string();
    for mixed in [there.f_add(&here), here.f_mul(&there), there.f_dot(&here), Tensor::f_cat(&[&there, &here], 0)] {
        assert!(error(mixed).contains("Expected all tensors to be on the same device"));
    }
    // Numbers of the CPU are let be, as on a GPU.
    let sum = there.f_add(&Tensor::from(1f32)).expect("a number goes with any device");
    assert_eq!(to_device(&sum, Device::Cpu, false).unwrap(), waves(&[4], 0.3, Device::Cpu) + 1f64);
}

/// As a one-stage detector gives them that has learnt nothing: too many for the square of their number in a GPU's memory.
#[test]
fn very_many_boxes_are_suppressed_image_by_image() {
    let _alone = alone();
    let (device, count) = (device(), 65_536 + 1000);
    let kept = |device: Device| {
        let corner = waves(&[count, 2], 0.7, device) * 5.0;
        let boxes = Tensor::cat(&[&corner, &(&corner + waves(&[count, 2], 0.9, device) * 10.0 + 60.0)], 1);
        let number = Tensor::arange(count, (Kind::Int64, device));
        // No two of them are equal.
        let scores = (&number * 7919).remainder(count).to_kind(Kind::Float) / count as f64;
        let (image, group) = (number.floor_divide_scalar(count / 2), number.remainder(3));
        let valid = scores.gt(0.25);
        let all = Candidates { boxes: &boxes, scores: &scores, image: &image, group: &group, valid: &valid };
        let kept = all.suppress(2, 0.8, 100).unwrap();
        kept.into_iter().map(|kept| Vec::<i64>::try_from(kept.to_device(Device::Cpu)).unwrap()).collect::<Vec<_>>()
    };
    let there = kept(device);
    assert!(there.iter().all(|kept| kept.len() > 3), "{there:?}");
    assert_eq!(there, kept(Device::Cpu));
}
