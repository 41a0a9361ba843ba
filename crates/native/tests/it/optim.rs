//! A hundred steps of each optimizer against `torch.optim`, clipping, averages, zeroing.

use pipe_native::optim::{
    Adam, AdamState, Amp, Sgd, adam_step, adamw_step, clip_grad_norm_, ema_update, sgd_step, zero_grads,
};
use tch::{Device, Kind, Tensor};

use crate::{Parity, difference};

const SGD: Sgd = Sgd {
    lr: 0.02,
    momentum: 0.9,
    dampening: 0.0,
    weight_decay: 1e-3,
    nesterov: false,
    maximize: false,
    first_step: false,
};
const ADAM: Adam =
    Adam { lr: 0.01, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, amsgrad: false, maximize: false };

fn params(parity: &Parity) -> Vec<Tensor> {
    ["p.0", "p.1"].map(|name| parity.get(name).copy().set_requires_grad(true)).into()
}

/// Gradients as `make.py` makes them.
fn grads(parity: &Parity, params: &[Tensor], step: usize) -> Vec<Tensor> {
    let factor = 0.1 + 0.05 * (step % 7) as f64;
    (0..params.len()).map(|i| (params[i].detach() - parity.get(&format!("t.{i}"))) * factor).collect()
}

fn zeros(params: &[Tensor]) -> Vec<Tensor> {
    params.iter().map(|p| p.detach().zeros_like()).collect()
}

fn scalars(n: usize) -> Vec<Tensor> {
    (0..n).map(|_| Tensor::zeros([0i64; 0], (Kind::Float, Device::Cpu))).collect()
}

fn assert_parity(parity: &Parity, name: &str, params: &[Tensor]) {
    for (i, p) in params.iter().enumerate() {
        let gap = difference(&p.detach(), &parity.get(&format!("{name}.{i}")));
        assert!(gap < 1e-6, "{name}: parameter {i} is off by {gap}");
    }
}

#[test]
fn sgd_is_torchs() {
    let parity = Parity::read("optim.safetensors");
    let cases = [
        ("sgd", Sgd { lr: 0.05, momentum: 0.0, weight_decay: 0.0, ..SGD }),
        ("sgd_momentum", Sgd { dampening: 0.1, ..SGD }),
        ("sgd_nesterov", Sgd { nesterov: true, ..SGD }),
    ];
    for (name, options) in cases {
        let params = params(&parity);
        let buffers = if options.momentum == 0.0 { vec![] } else { zeros(&params) };
        for step in 0..100 {
            let grads = grads(&parity, &params, step);
            let options = Sgd { first_step: step == 0, ..options };
            sgd_step(&params, &grads, &buffers, &options, Amp::default()).unwrap();
        }
        assert_parity(&parity, name, &params);
    }
}

#[test]
fn adam_and_adamw_are_torchs() {
    let parity = Parity::read("optim.safetensors");
    let cases = [
        ("adam", Adam { weight_decay: 1e-2, ..ADAM }),
        ("adam_amsgrad", Adam { amsgrad: true, betas: (0.8, 0.9), ..ADAM }),
        ("adamw", Adam { weight_decay: 0.1, ..ADAM }),
    ];
    for (name, options) in cases {
        let params = params(&parity);
        let [m, v, top] = [zeros(&params), zeros(&params), zeros(&params)];
        let steps = scalars(params.len());
        let state = AdamState {
            exp_avgs: &m,
            exp_avg_sqs: &v,
            max_exp_avg_sqs: if options.amsgrad { &top } else { &[] },
            steps: &steps,
        };
        let run = if name == "adamw" { adamw_step } else { adam_step };
        for step in 0..100 {
            run(&params, &grads(&parity, &params, step), state, &options, Amp::default()).unwrap();
        }
        assert_parity(&parity, name, &params);
        assert_eq!(f64::try_from(&steps[1]).unwrap(), 100.0);
    }
}

#[test]
fn a_scaled_step_is_the_plain_one_and_a_refused_step_does_nothing() {
    let parity = Parity::read("optim.safetensors");
    let (scale, yes) = (Tensor::from(8f32), Tensor::from(1f32));
    let no = Tensor::from(0f32);
    let run = |factor: f64, amp: Amp<'_>| {
        let params = params(&parity);
        let [m, v] = [zeros(&params), zeros(&params)];
        let steps = scalars(params.len());
        let state = AdamState { exp_avgs: &m, exp_avg_sqs: &v, max_exp_avg_sqs: &[], steps: &steps };
        let grads: Vec<_> = grads(&parity, &params, 3).iter().map(|g| g * factor).collect();
        adam_step(&params, &grads, state, &ADAM, amp).unwrap();
        (params[0].detach().copy(), f64::try_from(&steps[0]).unwrap())
    };
    let plain = run(1.0, Amp::default());
    let scaled = run(8.0, Amp { grad_scale: Some(&scale), found_inf: Some(&no) });
    assert!(difference(&plain.0, &scaled.0) < 1e-7);
    assert_eq!((plain.1, scaled.1), (1.0, 1.0));
    let refused = run(f64::NAN, Amp { grad_scale: Some(&scale), found_inf: Some(&yes) });
    assert_eq!(refused, (parity.get("p.0"), 0.0));
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let parity = Parity::read("optim.safetensors");
    let params = params(&parity);
    let grads = grads(&parity, &params, 0);
    let error = sgd_step(&params, &grads[..1], &[], &SGD, Amp::default()).unwrap_err().to_string();
    assert!(error.contains("2 parameters and 1 gradients"), "{error}");
    let error = sgd_step(&params, &grads, &[], &SGD, Amp::default()).unwrap_err().to_string();
    assert!(error.contains("0 momentum buffers"), "{error}");
    let none: [Tensor; 0] = [];
    sgd_step(&none, &none, &none, &SGD, Amp::default()).unwrap();
}

#[test]
fn clipping_is_torchs() {
    let parity = Parity::read("optim.safetensors");
    let grads = ["clip.in.0", "clip.in.1"].map(|name| parity.get(name).copy());
    let norm = clip_grad_norm_(&grads, 2.5).unwrap();
    assert!(difference(&norm, &parity.get("clip.norm")) < 1e-5);
    for (i, grad) in grads.iter().enumerate() {
        assert!(difference(grad, &parity.get(&format!("clip.out.{i}"))) < 1e-6);
    }
    // Below the bound, and with no bound, nothing changes.
    let before = grads[0].copy();
    let _ = clip_grad_norm_(&grads, 100.0).unwrap();
    let _ = clip_grad_norm_(&grads, f64::INFINITY).unwrap();
    assert_eq!(grads[0], before);
    assert_eq!(f64::try_from(clip_grad_norm_(&[], 1.0).unwrap()).unwrap(), 0.0);
}

#[test]
fn averages_move_and_counters_follow() {
    let ema = [Tensor::from_slice(&[1f32, 2.]), Tensor::from_slice(&[3i64])];
    let params = [Tensor::from_slice(&[2f32, 4.]).set_requires_grad(true), Tensor::from_slice(&[9i64])];
    ema_update(&ema, &params, 0.75).unwrap();
    assert_eq!(ema[0], Tensor::from_slice(&[1.25f32, 2.5]));
    assert_eq!(ema[1], Tensor::from_slice(&[9i64]));
    assert!(!ema[0].requires_grad());
    assert!(ema_update(&ema, &params[..1], 0.5).is_err());
}

#[test]
fn gradients_are_zeroed_or_removed() {
    let p = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let untouched = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    (&p * 3.0).sum(Kind::Float).backward();
    let list = [p.shallow_clone(), untouched];
    zero_grads(&list, false).unwrap();
    assert_eq!(p.grad(), Tensor::zeros([2], (Kind::Float, Device::Cpu)));
    zero_grads(&list, true).unwrap();
    assert!(!p.grad().defined());
}
