//! Images per second of the loader on COCO with masks, beside the article's own `DataLoader` doing the same work.
//!
//! `cargo bench --bench loader` reads `../shared/data/coco_sample` (or `PIPE_BENCH_COCO`), resizes to 512 and makes batches
//! of 4 with masks. `PIPE_BENCH_PYTHON` names a Python with torch, torchvision and pycocotools; then
//! `benches/article_loader.py` runs on the same pictures with the same number of workers, in turns, and the ratio is printed.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pipe_components::dataset::annotated::Annotated;
use pipe_components::dataset::coco::{self, CocoConfig};
use pipe_components::transform::compose::Steps;
use pipe_components::transform::random_horizontal_flip::RandomHorizontalFlip;
use pipe_components::transform::resize::Resize;
use pipe_components::{loader::batch::BatchConfig, loader::batch::BatchLoader};
use pipe_core::Dataset;
use pipe_core::Loader;
use pipe_data::masks::nearest;
use pipe_data::{Field, Masks, Sample, collate, fields};
use pipe_data::{geometry, geometry::Interpolation};
use serde_json::{from_value, json};

// As the program has it.
use tikv_jemallocator as _;

const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let root =
        std::env::var_os("PIPE_BENCH_COCO").map_or_else(|| PathBuf::from("../shared/data/coco_sample"), PathBuf::from);
    if !root.is_dir() {
        println!("skipped: there is no {} (set PIPE_BENCH_COCO)", root.display());
        return Ok(());
    }
    stages(&root)?;
    let python = std::env::var("PIPE_BENCH_PYTHON").ok();
    for workers in [0, 1, 2] {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..ROUNDS {
            ours.push(pipe_rate(&root, workers)?);
            if let Some(python) = &python {
                theirs.push(article_rate(python, &root, workers)?);
            }
        }
        let (ours, theirs) = (median(ours), median(theirs));
        match theirs {
            Some(theirs) => {
                let ours = ours.unwrap_or_default();
                println!(
                    "{workers} workers: {ours:6.1} images/s, article {theirs:6.1} images/s, ratio {:.2}",
                    ours / theirs
                );
            }
            None => println!("{workers} workers: {:6.1} images/s", ours.unwrap_or_default()),
        }
    }
    Ok(())
}

/// Milliseconds an image of each stage, on one thread; and of masks kept as whole planes, for comparison.
fn stages(root: &std::path::Path) -> Result<()> {
    let config: CocoConfig = from_value(json!({ "root": root, "split": "train2017", "empty": "drop" }))?;
    let boxes_only: CocoConfig =
        from_value(json!({ "root": root, "split": "train2017", "empty": "drop", "masks": false }))?;
    let (with_masks, without) = (coco::open(&config, root)?, coco::open(&boxes_only, root)?);
    let count = with_masks.len();
    let milliseconds = |start: Instant| start.elapsed().as_secs_f64() * 1e3 / count as f64;
    let read = |dataset: &Annotated| -> Result<Vec<Sample>> { (0..count).map(|i| dataset.get(i)).collect() };
    read(&without)?;
    let start = Instant::now();
    let mut images = read(&without)?;
    println!("decode            {:6.2} ms", milliseconds(start));
    let start = Instant::now();
    let mut samples = read(&with_masks)?;
    println!("decode, rasterise {:6.2} ms", milliseconds(start));
    let start = Instant::now();
    images.iter_mut().try_for_each(|image| geometry::resize(image, 512, 512, Interpolation::Bilinear))?;
    println!("resize picture    {:6.2} ms", milliseconds(start));
    let masks = |sample: &mut Sample| match sample.remove(fields::MASKS) {
        Some(Field::Masks(masks)) => masks,
        _ => Masks::default(),
    };
    let mut all: Vec<Masks> = samples.iter_mut().map(masks).collect();
    let planes: Vec<(usize, usize, Vec<u8>)> = all.iter().map(|m| (m.height, m.width, m.to_planes())).collect();
    let start = Instant::now();
    for masks in &mut all {
        masks.resize(512, 512);
        masks.flip_horizontal();
    }
    println!("masks as windows  {:6.2} ms (resize, flip)", milliseconds(start));
    let start = Instant::now();
    for (height, width, planes) in &planes {
        let (rows, columns) = (nearest(*height, 512), nearest(*width, 512));
        for plane in planes.chunks_exact(height * width) {
            let mut resized: Vec<u8> = Vec::with_capacity(512 * 512);
            rows.iter().for_each(|y| resized.extend(columns.iter().map(|x| plane[y * width + x])));
            resized.chunks_exact_mut(512).for_each(<[u8]>::reverse);
            std::hint::black_box(&resized);
        }
    }
    println!("masks as planes   {:6.2} ms (the same)", milliseconds(start));
    for (sample, masks) in images.iter_mut().zip(all) {
        sample.set(fields::MASKS, Field::Masks(masks));
    }
    let start = Instant::now();
    while !images.is_empty() {
        let rest = images.split_off(images.len().min(4));
        std::hint::black_box(collate(std::mem::replace(&mut images, rest))?);
    }
    println!("make batches of 4 {:6.2} ms", milliseconds(start));
    Ok(())
}

/// Images per second over three epochs, after one to warm up.
fn pipe_rate(root: &std::path::Path, workers: usize) -> Result<f64> {
    let dataset: CocoConfig = from_value(json!({ "root": root, "split": "train2017", "empty": "drop" }))?;
    let resize: Resize = from_value(json!({ "size": 512 }))?;
    let flip: RandomHorizontalFlip = from_value(json!({ "p": 0.5 }))?;
    let options = json!({ "dataset": "dataset.train", "batch_size": 4, "shuffle": true, "workers": workers });
    let options: BatchConfig = from_value(options)?;
    let dataset = Arc::new(coco::open(&dataset, root)?);
    let transform = Arc::new(Steps(vec![("resize".into(), Arc::new(resize)), ("flip".into(), Arc::new(flip))]));
    let mut loader = BatchLoader::new(&options, dataset, Some(transform), 0, tch::Device::Cpu, "loader.bench".into())?;
    let mut images = 0;
    let mut start = Instant::now();
    for epoch in 0..4 {
        if epoch == 1 {
            (images, start) = (0, Instant::now());
        }
        loader.start_epoch(epoch, 0)?;
        while let Some(batch) = loader.next_batch()? {
            images += batch.size;
        }
    }
    Ok(images as f64 / start.elapsed().as_secs_f64())
}

/// The same of the article's program.
fn article_rate(python: &str, root: &std::path::Path, workers: usize) -> Result<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/article_loader.py");
    let output =
        Command::new(python).arg(script).arg(root).arg(workers.to_string()).output().context(python.to_owned())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().last().context("article_loader.py printed nothing")?;
    Ok(rate.trim().parse()?)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
