//! Times for the COCO code, with the peak memory of the process.
//!
//! ```text
//! cargo run --release --example coco_bench -- index FILE.json     read an annotation file
//! cargo run --release --example coco_bench -- synthesise FILE.json MEGABYTES
//! cargo run --release --example coco_bench -- score GT.json DT.json bbox|segm
//! cargo run --release --example coco_bench -- shapes FOLDER
//! cargo run --release --example coco_bench -- digits FOLDER
//! ```

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use pipe_coco::dice::Dice;
use pipe_coco::{eval::ScoreOptions, eval::score};
use pipe_coco::{index::Index, index::LoadOptions};
use pipe_coco::{synthetic::DigitsSpec, synthetic::ShapesSpec, synthetic::write_digits, synthetic::write_shapes};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let started = Instant::now();
    match arguments[..] {
        ["index", file] => {
            let index = Index::open(Path::new(file), &LoadOptions::default())?;
            println!("{} images, {} annotations", index.images().len(), index.annotation_count());
            println!("{}", index.audit());
        }
        ["synthesise", file, megabytes] => synthesise(Path::new(file), megabytes.parse::<u64>()? << 20)?,
        ["score", truth, results, iou] => {
            println!(
                "{}",
                score(Path::new(truth), Path::new(results), iou.parse()?, &ScoreOptions::default())?.summary
            );
        }
        ["shapes", folder] => write_shapes(Path::new(folder), &ShapesSpec::default())?,
        ["digits", folder] => write_digits(Path::new(folder), &DigitsSpec::default())?,
        _ => bail!("see the head of this file"),
    }
    println!("{:.3} s, peak {}", started.elapsed().as_secs_f64(), peak_memory());
    Ok(())
}

/// The most memory this process has had, as Linux counts it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or("unknown".into(), |line| line.trim().to_owned())
}

/// A file like instances_train2017.json: 7.3 annotations an image, polygons of 30 points in hundredths.
fn synthesise(path: &Path, bytes: u64) -> Result<()> {
    let mut dice = Dice::new(0, 0);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let images = (bytes / 3600) as usize;
    write!(file, "{{\"info\": {{}}, \"licenses\": [], \"images\": [")?;
    for id in 0..images {
        let comma = if id == 0 { "" } else { ", " };
        write!(
            file,
            "{comma}{{\"license\": 3, \"file_name\": \"{id:012}.jpg\", \"coco_url\": \"http://images.example.org/train2017/{id:012}.jpg\", \"height\": 480, \"width\": 640, \"date_captured\": \"2013-11-14 11:18:45\", \"id\": {id}}}"
        )?;
    }
    write!(file, "], \"annotations\": [")?;
    for id in 0..images * 73 / 10 {
        let comma = if id == 0 { "" } else { ", " };
        write!(file, "{comma}{{\"segmentation\": [[")?;
        for i in 0..40 + dice.below(40) / 2 * 2 {
            let (whole, hundredths) = (dice.below(480), dice.below(100));
            write!(file, "{}{whole}.{hundredths:02}", if i == 0 { "" } else { ", " })?;
        }
        let (image, category, place) = (dice.below(images), 1 + dice.below(80), dice.below(200));
        write!(
            file,
            "]], \"area\": 702.1057499999998, \"iscrowd\": 0, \"image_id\": {image}, \"bbox\": [{place}.21, 88.4, 38.53, 38.99], \"category_id\": {category}, \"id\": {id}}}"
        )?;
    }
    write!(file, "], \"categories\": [")?;
    for id in 1..=80 {
        write!(
            file,
            "{}{{\"supercategory\": \"s\", \"id\": {id}, \"name\": \"n{id}\"}}",
            if id == 1 { "" } else { ", " }
        )?;
    }
    Ok(writeln!(file, "]}}")?)
}
