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
use pipe::components::dataset::coco::{Coco, CocoConfig};
use pipe::components::loader::Loader;
use pipe::components::loader::batch::{BatchConfig, BatchLoader};
use pipe::components::transform::compose::Steps;
use pipe::components::transform::random_horizontal_flip::RandomHorizontalFlip;
use pipe::components::transform::resize::Resize;
use serde_json::{from_value, json};

const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let root =
        std::env::var_os("PIPE_BENCH_COCO").map_or_else(|| PathBuf::from("../shared/data/coco_sample"), PathBuf::from);
    if !root.is_dir() {
        println!("skipped: there is no {} (set PIPE_BENCH_COCO)", root.display());
        return Ok(());
    }
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

/// Images per second over three epochs, after one to warm up.
fn pipe_rate(root: &std::path::Path, workers: usize) -> Result<f64> {
    let dataset: CocoConfig = from_value(json!({ "root": root, "split": "train2017", "empty": "drop" }))?;
    let resize: Resize = from_value(json!({ "size": 512 }))?;
    let flip: RandomHorizontalFlip = from_value(json!({ "p": 0.5 }))?;
    let options = json!({ "dataset": "dataset.train", "batch_size": 4, "shuffle": true, "workers": workers });
    let options: BatchConfig = from_value(options)?;
    let dataset = Arc::new(Coco::open(&dataset, root)?);
    let transform = Arc::new(Steps(vec![Arc::new(resize), Arc::new(flip)]));
    let mut loader = BatchLoader::new(&options, dataset, Some(transform), 0, "loader.bench".into())?;
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
