//! The time of COCO's index and evaluation in this process, without its start, and its peak memory, for `benches/side_by_side/run.py`.
//!
//! ```text
//! coco_bench index ANNOTATIONS
//! coco_bench bbox|segm ANNOTATIONS RESULTS
//! ```

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use pipe_coco::{eval::ScoreOptions, eval::score};
use pipe_coco::{index::Index, index::LoadOptions};
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let started = Instant::now();
    let (seconds, stats) = match arguments[..] {
        ["index", file] => {
            let index = Index::open(Path::new(file), &LoadOptions::default())?;
            let seconds = started.elapsed();
            eprintln!("{} images, {} annotations", index.images().len(), index.annotation_count());
            (seconds, Vec::new())
        }
        [iou @ ("bbox" | "segm"), truth, results] => {
            let stats =
                score(Path::new(truth), Path::new(results), iou.parse()?, &ScoreOptions::default())?.summary.stats;
            (started.elapsed(), stats.to_vec())
        }
        _ => bail!("see the head of this file"),
    };
    println!("{}", json!({ "seconds": seconds.as_secs_f64(), "stats": stats, "mib": peak_memory()? }));
    Ok(())
}

/// The most memory this process has had in MiB, as Linux counts it.
fn peak_memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
