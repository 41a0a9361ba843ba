//! How fast many runs are: `cargo bench -p pipe-runs`. Prints the figures that docs/benchmarks.md has.

use std::fs;
use std::path::Path;
use std::time::Instant;

use pipe_history::scalars::Writer;
use pipe_history::{Point, Scalars, Span};
use pipe_runs::{Index, folders};
use serde_json::json;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    curves(folder.path());
    table(folder.path());
}

/// Seven curves of a million points: written, their size, one and twenty of them drawn.
fn curves(folder: &Path) {
    const POINTS: u64 = 1_000_000;
    let run = folder.join("long");
    fs::create_dir(&run).expect("made");
    let mut writer = Writer::open(&run, None).expect("a writer");
    let tags: Vec<String> = (0..7).map(|tag| format!("train/{tag}")).collect();
    let started = Instant::now();
    for step in 0..POINTS {
        let point = |value| Point { step, epoch: step / 5000, time: 1.7e9 + step as f64 * 0.0137, value };
        for (at, tag) in tags.iter().enumerate() {
            let spike = if step == 777_777 { 1e3 } else { 0.0 };
            writer
                .push(tag, &"engine.trainer", point((step as f64 * 1e-4).sin() + at as f64 + spike))
                .expect("written");
        }
    }
    writer.flush().expect("written");
    let each = started.elapsed().as_secs_f64() / (7 * POINTS) as f64;
    let files = fs::read_dir(run.join("scalars")).expect("files").flatten();
    let bytes: u64 = files.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum();
    println!("7 curves of 1 M points: {:.1} MB, {:.0} ns a point to write", bytes as f64 / 1e6, each * 1e9);
    for pixels in [500, 1000, 2000] {
        let (started, busy) = (Instant::now(), on_cpu());
        for at in 0..20 {
            let scalars = Scalars::open(&run).expect("a reader");
            let view = scalars.view(&tags[at % 7], Span::steps(0, POINTS - 1), pixels).expect("a view");
            assert!(view.columns.iter().any(|column| column.max.is_some_and(|max| max.value > 900.0)), "the spike");
        }
        let (wall, busy) = (started.elapsed().as_secs_f64() * 1e3, (on_cpu() - busy) * 1e3);
        println!("20 curves of 1 M points by {pixels} pixels: {wall:.1} ms, {busy:.1} ms of one core");
    }
}

/// Seconds that this thread has been at work: of a machine that is shared they say more than the time that passed.
fn on_cpu() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or_default() / 1e9
}

/// A thousand runs: indexed, and as a table once they are.
fn table(folder: &Path) {
    let root = folder.join("runs");
    let options: String = (0..40)
        .map(|node| format!("[transform.t{node}]\ntype = \"x\"\na = 1\nb = [1, 2, 3]\nc = \"text\"\n\n"))
        .collect();
    for at in 0..1000u64 {
        let run = root.join(format!("p{}/{at}", at % 10));
        fs::create_dir_all(&run).expect("made");
        let info = json!({ "status": "done", "name": "p", "created": 1.7e9 + at as f64, "seconds": 3.0 });
        fs::write(run.join("run.json"), info.to_string()).expect("written");
        fs::write(run.join("pipeline.toml"), &options).expect("written");
        let mut writer = Writer::open(&run, None).expect("a writer");
        for step in 0..2000u64 {
            for tag in 0..20 {
                let point = Point { step, epoch: 0, time: 1.7e9, value: step as f64 };
                writer.push(&format!("train/{tag}"), &"n", point).expect("written");
            }
        }
        writer.flush().expect("written");
    }
    let path = folder.join("runs.sqlite");
    for what in ["indexed", "listed"] {
        let (started, busy) = (Instant::now(), on_cpu());
        let all = folders::below_all(std::slice::from_ref(&root)).expect("folders");
        let runs = Index::at(&path).look(&all);
        let (wall, busy) = (started.elapsed().as_secs_f64() * 1e3, (on_cpu() - busy) * 1e3);
        println!("{} runs with 20 curves {what}: {wall:.0} ms, {busy:.0} ms of one core", runs.len());
    }
}
