//! The gradient scaler's rules, those of `torch.amp.GradScaler`.

use pipe_native::GradScaler;
use pipe_native::scaler::GradScalerState;
use tch::{Device, Tensor};

#[test]
fn the_scale_grows_after_good_steps_and_falls_after_bad_ones() {
    let start = GradScalerState { scale: 4.0, growth_interval: 2, ..Default::default() };
    let mut scaler = GradScaler::new(Device::Cpu, start).unwrap();
    let mut step = |value: f32| {
        let grads = [Tensor::from_slice(&[value]), Tensor::from_slice(&[8f32])];
        scaler.unscale(&grads[..1]).unwrap();
        scaler.unscale(&grads[1..]).unwrap();
        let bad = f64::try_from(scaler.found_inf()).unwrap() != 0.0;
        let unscaled = f64::try_from(grads[1].get(0)).unwrap();
        scaler.update().unwrap();
        let state = scaler.state().unwrap();
        (bad, unscaled, state.scale, state.growth_tracker)
    };
    assert_eq!(step(1.0), (false, 2.0, 4.0, 1));
    assert_eq!(step(1.0), (false, 2.0, 8.0, 0));
    assert_eq!(step(1.0), (false, 1.0, 8.0, 1));
    assert_eq!(step(f32::INFINITY), (true, 1.0, 4.0, 0));
    assert_eq!(step(f32::NAN), (true, 2.0, 2.0, 0));
    assert_eq!(step(1.0), (false, 4.0, 2.0, 1));
}

#[test]
fn state_is_kept_and_checked() {
    let mut scaler = GradScaler::new(Device::Cpu, GradScalerState::default()).unwrap();
    let loss = Tensor::from(0.5f32);
    assert_eq!(f64::try_from(scaler.scale(&loss).unwrap()).unwrap(), 32768.0);
    let kept = GradScalerState { scale: 16.0, growth_tracker: 7, ..Default::default() };
    scaler.load_state(kept).unwrap();
    assert_eq!(scaler.state().unwrap(), kept);
    for (wrong, word) in [
        (GradScalerState { growth_factor: 1.0, ..kept }, "growth_factor"),
        (GradScalerState { backoff_factor: 1.0, ..kept }, "backoff_factor"),
        (GradScalerState { growth_interval: 0, ..kept }, "growth_interval"),
        (GradScalerState { scale: f64::NAN, ..kept }, "scale"),
    ] {
        assert!(scaler.load_state(wrong).unwrap_err().to_string().contains(word));
    }
    assert_eq!(scaler.state().unwrap(), kept);
}
