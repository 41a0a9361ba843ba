//! The same on the GPU as on the CPU. Without a GPU these run on the CPU: `scripts/gpu_suite.py` takes them to one.

use std::time::Duration;

use pipe_native::distributed::{Group, Store};
use pipe_native::ops::{batched_nms, nms, roi_align, roi_align_ordered};
use pipe_native::optim::{Adam, AdamState, Amp, Sgd, adamw_step, clip_grad_norm_, ema_update, sgd_step};
use pipe_native::scaler::{GradScaler, GradScalerState};
use pipe_native::stream::{Event, Stream, synchronize};
use pipe_native::{choose_device, generator, kernels, memory, to_device};
use pipe_test_support::skip;
use tch::{Device, Kind, Tensor};

use crate::{Parity, difference};

fn device() -> Device {
    let (device, why) = choose_device("auto").unwrap();
    println!("{why}");
    device
}

#[test]
fn operators() {
    let (device, parity) = (device(), Parity::read("ops.safetensors"));
    let x = parity.get("roi.input").copy().to_device(device).set_requires_grad(true);
    let y = roi_align(&x, &parity.get("roi.boxes").to_device(device), 0.5, 3, 4, 2, true).unwrap();
    assert!(difference(&y.detach().to_device(Device::Cpu), &parity.get("roi.0.out")) < 2e-6);
    (&y * parity.get("roi.0.weight").to_device(device)).sum(Kind::Float).backward();
    assert!(difference(&x.grad().to_device(Device::Cpu), &parity.get("roi.0.grad")) < 1e-5);

    let x = parity.get("roi.input").copy().to_device(device).set_requires_grad(true);
    let y = roi_align_ordered(&x, &parity.get("roi.boxes").to_device(device), 0.5, (3, 4), 2, true).unwrap();
    (&y * parity.get("roi.0.weight").to_device(device)).sum(Kind::Float).backward();
    assert!(difference(&x.grad().to_device(Device::Cpu), &parity.get("roi.0.grad")) < 1e-5);

    let k = Tensor::arange(500, (Kind::Float, Device::Cpu));
    let (left, top) = ((&k * 0.7).sin() * 50.0 + 50.0, (&k * 1.3).cos() * 50.0 + 50.0);
    let boxes = Tensor::stack(&[left.copy(), top.copy(), &left + 20.0, &top + 15.0], 1);
    let (scores, classes) = ((&k * 0.37).sin(), k.remainder(3.0).to_kind(Kind::Int64));
    let there = |tensor: &Tensor| tensor.to_device(device);
    let kept = nms(&there(&boxes), &there(&scores), 0.4).unwrap().to_device(Device::Cpu);
    assert_eq!(kept, nms(&boxes, &scores, 0.4).unwrap());
    let kept = batched_nms(&there(&boxes), &there(&scores), &there(&classes), 0.4).unwrap().to_device(Device::Cpu);
    assert_eq!(kept, batched_nms(&boxes, &scores, &classes, 0.4).unwrap());
}

/// Parameters after ten steps on a device, clipped, with their average.
fn stepped(device: Device, decoupled: bool) -> Vec<Tensor> {
    let make = |seed: f64, shape: &[i64]| {
        let count = shape.iter().product::<i64>();
        ((Tensor::arange(count, (Kind::Float, Device::Cpu)) * seed).sin()).view(shape).to_device(device)
    };
    let params = [make(0.3, &[7, 5]), make(0.9, &[11])];
    let zeros = || params.iter().map(Tensor::zeros_like).collect::<Vec<_>>();
    let (first, second, average) = (zeros(), zeros(), zeros());
    let steps: Vec<Tensor> = params.iter().map(|_| Tensor::zeros([0i64; 0], (Kind::Float, device))).collect();
    let adam = Adam { lr: 0.01, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.1, amsgrad: false, maximize: false };
    for step in 0..10 {
        let grads = [make(0.2 + 0.1 * f64::from(step), &[7, 5]), make(1.7 + f64::from(step), &[11])];
        let _norm = clip_grad_norm_(&grads, 1.5).unwrap();
        if decoupled {
            let state = AdamState { exp_avgs: &first, exp_avg_sqs: &second, max_exp_avg_sqs: &[], steps: &steps };
            adamw_step(&params, &grads, state, &adam, Amp::default()).unwrap();
        } else {
            let (momentum, weight_decay, first_step) = (0.9, 1e-3, step == 0);
            let sgd =
                Sgd { lr: 0.02, momentum, dampening: 0.0, weight_decay, nesterov: true, maximize: false, first_step };
            sgd_step(&params, &grads, &first, &sgd, Amp::default()).unwrap();
        }
        ema_update(&average, &params, 0.9).unwrap();
    }
    params.into_iter().chain(average).map(|tensor| tensor.to_device(Device::Cpu)).collect()
}

#[test]
fn fused_steps() {
    let device = device();
    if !device.is_cuda() {
        return skip!("there is no GPU to compare the CPU with; the steps' numbers are in optim.rs");
    }
    for decoupled in [false, true] {
        for (there, here) in stepped(device, decoupled).iter().zip(&stepped(Device::Cpu, decoupled)) {
            assert!(difference(there, here) < 1e-5, "decoupled {decoupled}");
        }
    }
}

#[test]
fn the_loss_scaler() {
    let device = device();
    let mut scaler = GradScaler::new(device, GradScalerState::default()).unwrap();
    let before = scaler.state().unwrap().scale;
    let grads = [Tensor::from_slice(&[1f32, f32::INFINITY]).to_device(device)];
    scaler.unscale(&grads).unwrap();
    assert_eq!(f64::try_from(scaler.found_inf()).unwrap(), 1.0);
    scaler.update().unwrap();
    assert!(scaler.state().unwrap().scale < before, "an overflow lowers the scale");
}

#[test]
fn copies_and_streams() {
    let device = device();
    let host = Tensor::arange(1 << 20, (Kind::Float, Device::Cpu));
    let host = if device.is_cuda() { host.pin_memory(device) } else { host };
    let side = Stream::side(device).unwrap();
    let (mut copied, mut added) = (Event::new(device).unwrap(), Event::new(device).unwrap());
    let there = side
        .with(|| {
            let there = to_device(&host, device, true).unwrap();
            copied.record().unwrap();
            there
        })
        .unwrap();
    let current = Stream::current(device).unwrap();
    copied.block(&current).unwrap();
    current.uses(&there).unwrap();
    let sum = (&there + 1.0).sum(Kind::Double);
    added.record().unwrap();
    synchronize(device).unwrap();
    assert!(copied.is_done().unwrap() && added.is_done().unwrap());
    assert!(copied.elapsed_ms(&added).unwrap() >= 0.0);
    let count = f64::from(1 << 20);
    assert_eq!(f64::try_from(sum).unwrap(), count * (count - 1.0) / 2.0 + count);
}

#[test]
fn memory_and_generator_of_a_gpu() {
    let device = device();
    if !device.is_cuda() {
        return skip!("there is no GPU; on the CPU other tests cover them");
    }
    let before = memory::allocated(device).unwrap();
    let held = Tensor::zeros([16 << 20], (Kind::Float, device));
    assert!(memory::allocated(device).unwrap() >= before + (64 << 20), "{:?}", held.size());
    assert!(memory::max_allocated(device).unwrap() >= before + (64 << 20));
    drop(held);
    let (free, total) = memory::free_and_total(device).unwrap();
    assert!(free <= total && memory::reserved(device).unwrap() <= total);

    let draw = || Tensor::randn([64], (Kind::Float, device)).to_device(Device::Cpu);
    generator::seed(device, 5).unwrap();
    let kept = generator::state(device).unwrap();
    let first = draw();
    generator::set_state(device, &kept).unwrap();
    assert_eq!(draw(), first);
}

/// Random boxes `[count, 4]` in an image of 1,000 pixels.
fn boxes(count: i64) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    let corner = Tensor::rand([count, 2], options) * 800.0;
    Tensor::cat(&[&corner, &(&corner + 1.0 + Tensor::rand([count, 2], options) * 300.0)], 1)
}

/// Intersection over union of each of `a` with each of `b`, as torchvision's `box_iou`.
fn overlaps(a: &Tensor, b: &Tensor) -> Tensor {
    let area = |boxes: &Tensor| (boxes.select(1, 2) - boxes.select(1, 0)) * (boxes.select(1, 3) - boxes.select(1, 1));
    let side = |axis: i64| {
        let end = a.select(1, axis + 2).unsqueeze(1).minimum(&b.select(1, axis + 2));
        (end - a.select(1, axis).unsqueeze(1).maximum(&b.select(1, axis))).clamp_min(0)
    };
    let inter = side(0) * side(1);
    &inter / (area(a).unsqueeze(1) + area(b) - &inter)
}

#[test]
fn kernels_of_our_own() {
    let device = device();
    if !device.is_cuda() {
        return skip!("there is no GPU; what the kernels stand for is tested on the CPU");
    }
    tch::manual_seed(5);
    // Groups of all sizes, among them those of one box and of many tiles; the first do not count.
    let sizes = [3i64, 1, 2, 63, 64, 65, 1, 500, 2000, 4097];
    let all = boxes(sizes.iter().sum());
    let keys = sizes.iter().enumerate().map(|(i, n)| Tensor::full([*n], i as i64 * 7 - 1, (Kind::Int64, Device::Cpu)));
    let keys = Tensor::cat(&keys.collect::<Vec<_>>(), 0);
    let there = all.to_device(device);
    assert!(kernels::ready(&[&there]), "the kernels do not compile: see the log");
    for threshold in [0.3, 0.5, 0.7] {
        let stays = kernels::suppress(&there, &keys.to_device(device), threshold).unwrap().to_device(Device::Cpu);
        let mut first = 0;
        for (group, size) in sizes.iter().enumerate() {
            let scores = Tensor::arange_start_step(*size, 0, -1, (Kind::Float, Device::Cpu));
            let kept = nms(&all.narrow(0, first, *size), &scores, threshold).unwrap();
            let wanted = Tensor::zeros([*size], (Kind::Bool, Device::Cpu));
            let _ = wanted.shallow_clone().index_fill_(0, &kept, if group == 0 { 0 } else { 1 });
            assert_eq!(stays.narrow(0, first, *size), wanted, "group {group} of {size}, {threshold}");
            first += size;
        }
    }
    for (truths, low_quality) in [(1, true), (7, true), (90, true), (90, false)] {
        let truth = boxes(truths);
        let quality = overlaps(&truth, &all);
        let (best, of) = quality.max_dim(0, false);
        let mut wanted = of.masked_fill(&best.lt(0.3), -1).masked_fill(&best.ge(0.3).logical_and(&best.lt(0.7)), -2);
        if low_quality {
            let promoted = quality.eq_tensor(&quality.max_dim(1, true).0).any_dim(0, false);
            wanted = of.where_self(&promoted, &wanted);
        }
        let found = kernels::matches(&truth.to_device(device), &there, (0.3, 0.7), low_quality).unwrap();
        assert_eq!(found.to_device(Device::Cpu), wanted, "{truths} truths, {low_quality}");
    }
}

#[test]
fn nccl_of_one_rank() {
    let device = device();
    if !device.is_cuda() {
        return skip!("there is no GPU; tests/stand_in/ranks.rs has two ranks on what stands for some");
    }
    let soon = Duration::from_secs(60);
    let store = Store::connect("127.0.0.1", 0, true, soon).unwrap();
    let group = Group::nccl(&store, (0, 1), device, soon).unwrap();
    let numbers = |kind| Tensor::arange(1000, (kind, device));
    for kind in [Kind::Float, Kind::Half, Kind::BFloat16, Kind::Double, Kind::Int64] {
        let mut all = numbers(kind);
        group.all_reduce(&mut all).unwrap();
        group.broadcast(&mut all, 0).unwrap();
        assert!(all.equal(&numbers(kind)), "{kind:?}");
    }
    let param = numbers(Kind::Float).set_requires_grad(true);
    let params = [param.shallow_clone()];
    let reducer = group.reducer(&params).unwrap();
    reducer.arm().unwrap();
    group.shared_sum(&param).unwrap().square().sum(Kind::Float).backward();
    reducer.finish(true).unwrap();
    assert!(param.grad().equal(&(numbers(Kind::Float) * 2)));
    assert!(group.all_reduce(&mut Tensor::zeros([2], (Kind::Float, Device::Cpu))).is_err());
}
