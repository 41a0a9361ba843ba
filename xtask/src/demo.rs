//! `cargo xtask demo`: the program's main job, from a fresh checkout to images with predictions.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::metadata::target;
use crate::setup::{Options, setup};
use crate::shell::{cargo, must, step};

const PIPELINE: &str = "pipelines/maskrcnn_coco.toml";

/// The average precision of the masks at an IoU of 0.5 that the training has to reach.
const WANTED: f64 = 0.6;

/// So many images are predicted.
const IMAGES: usize = 3;

/// Builds, trains, predicts, and says what comes next. `rest` are options of `pipe run`.
pub(crate) fn demo(root: &Path, rest: &[String]) -> Result<()> {
    let own = ["--out", "--resume", "--quiet"];
    if let Some(option) = rest.iter().find(|word| own.iter().any(|own| word.starts_with(own))) {
        bail!("`demo` has its own folder and output: leave {option} away, or use `pipe run {PIPELINE} --profile demo`");
    }
    let libtorch = setup(root, &Options::default())?;
    step("build");
    must(cargo(root, &libtorch).args(["build", "--release", "--bin", "pipe"]))?;
    let pipe = target(root)?.join("release/pipe");
    let run = free_folder(root);
    step("training: Mask R-CNN from scratch on built-in images of shapes (about four minutes on two cores)");
    let started = Instant::now();
    let train = ["run", PIPELINE, "--profile", "demo", "--out"];
    must(Command::new(&pipe).args(train).arg(&run).args(rest).current_dir(root))?;
    let seconds = started.elapsed().as_secs();
    let reached = json(&root.join(&run).join("run.json"))?["values"]["metric.coco:segm/AP50"]
        .as_f64()
        .context("the training has measured no AP50 of masks")?;
    step("predictions");
    let drawn = predict(root, &pipe, &run)?;
    println!("\nmask AP50 {reached:.3} after {} min {:02} s of training and evaluation", seconds / 60, seconds % 60);
    println!("predictions are drawn in");
    drawn.iter().for_each(|image| println!("  {}", image.display()));
    tell_next(root, &pipe, &run);
    ensure!(reached > WANTED, "the mask AP50 is {reached:.3}; it should be above {WANTED}");
    Ok(())
}

/// The first of `runs/maskrcnn_coco/demo`, `demo-2`, … that is not there yet, relative to the checkout.
fn free_folder(root: &Path) -> PathBuf {
    let runs = env::var_os("PIPE_RUNS").map_or_else(|| PathBuf::from("runs"), PathBuf::from).join("maskrcnn_coco");
    let numbered = (2..).map(|number| runs.join(format!("demo-{number}")));
    let mut folders = std::iter::once(runs.join("demo")).chain(numbered);
    folders.find(|folder| !root.join(folder).exists()).unwrap_or(runs)
}

/// Predicts images that were not trained on, with the best checkpoint; where they are drawn.
fn predict(root: &Path, pipe: &Path, run: &Path) -> Result<Vec<PathBuf>> {
    let shapes = cache()?.join("shapes");
    let folder = shapes.join("val2017");
    let images = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut images: Vec<PathBuf> = images.flatten().map(|entry| entry.path()).collect();
    images.sort();
    images.truncate(IMAGES);
    let drawn = run.join("predictions");
    let mut command = Command::new(pipe);
    command.arg("predict").arg(run).arg("--images").args(&images);
    command.arg("--annotations").arg(shapes.join("annotations/instances_val2017.json"));
    must(command.arg("--out").arg(run.join("predictions.json")).arg("--draw").arg(&drawn).current_dir(root))?;
    let names = fs::read_dir(root.join(&drawn)).context("no image was drawn")?;
    let mut paths: Vec<PathBuf> = names.flatten().map(|entry| drawn.join(entry.file_name())).collect();
    paths.sort();
    ensure!(paths.len() == IMAGES, "{} images were drawn, not {IMAGES}", paths.len());
    Ok(paths)
}

/// The folder of built-in data, as the program chooses it.
fn cache() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_home = || set("HOME").map(|home| home.join(".cache"));
    let cache = set("PIPE_CACHE").or_else(|| Some(set("XDG_CACHE_HOME").or_else(of_home)?.join("pipe")));
    cache.context("HOME is not set, so there is no cache of built-in data")
}

fn tell_next(root: &Path, pipe: &Path, run: &Path) {
    let pipe = pipe.strip_prefix(root).unwrap_or(pipe).display();
    let run = run.display();
    println!(
        "next:\n  \
         {pipe} eval {run}\n  \
         {pipe} predict {run} --images IMAGES… --out results.json --draw drawn\n  \
         {pipe} run pipelines/mnist.toml --profile demo --watch    # and edit the file while it trains\n  \
         {pipe} new my-project --template image-folder             # on your own images\n  \
         cargo xtask install                                       # `pipe` on the PATH"
    );
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
}
