//! Times of the native layer: `cargo run --release -p pipe-native --example speed [IMAGE.jpg]`.

use std::time::Instant;

use anyhow::Result;
use pipe_native::{choose_device, image, ops, stream};
use tch::{Device, Kind, Tensor};

/// Median milliseconds of `f` over some runs, with the device waited for.
fn time(device: Device, runs: usize, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    f()?;
    let mut times = Vec::new();
    for _ in 0..runs {
        stream::synchronize(device)?;
        let start = Instant::now();
        f()?;
        stream::synchronize(device)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn roi_align(device: Device) -> Result<()> {
    let options = (Kind::Float, device);
    let input = Tensor::randn([2, 256, 64, 64], options).set_requires_grad(true);
    let corner = Tensor::rand([1000, 2], options) * 180.0;
    let far = &corner + Tensor::rand([1000, 2], options) * 70.0 + 4.0;
    let image = Tensor::arange(1000, options).remainder(2.0).unsqueeze(1);
    let boxes = Tensor::cat(&[image, corner, far], 1);
    for ratio in [2, 0] {
        let out = ops::roi_align(&input, &boxes, 0.25, 7, 7, ratio, false)?;
        let grad = out.ones_like();
        let forward =
            time(device, 5, || tch::no_grad(|| ops::roi_align(&input, &boxes, 0.25, 7, 7, ratio, false)).map(drop))?;
        let backward = time(device, 5, || {
            Tensor::f_run_backward(&[(&out * &grad).sum(Kind::Float)], &[&input], true, false)?;
            Ok(())
        })?;
        println!(
            "roi_align 1000 boxes, 256 channels, 7x7, sampling {ratio}: forward {forward:.1} ms, backward {backward:.1} ms"
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    let (device, why) = choose_device("auto")?;
    println!("{why}; {:?}", pipe_native::version());
    roi_align(device)?;
    if let Some(path) = std::env::args().nth(1) {
        let bytes = std::fs::read(&path)?;
        let size = image::decode(&bytes, true)?.size();
        let ms = time(Device::Cpu, 30, || image::decode(&bytes, true).map(drop))?;
        println!("decode {path} {size:?}: {ms:.2} ms");
    }
    Ok(())
}
