//! Runs' folders with all that a run leaves, made without training.

use std::fs;
use std::path::{Path, PathBuf};

use pipe_history::scalars::Writer;
use pipe_history::{History, Point};
use pipe_vocab::{NodeId, Object, Objects, Record, RecordValue};
use serde_json::{Value, json};

/// When the first run began.
pub const BEGUN: f64 = 1.79e9;

/// What a run is like.
#[derive(Clone)]
pub struct Spec {
    pub lr: f64,
    pub seed: u64,
    pub steps: u64,
    pub created: f64,
    pub status: &'static str,
    pub group: Option<&'static str>,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec { lr: 0.1, seed: 1, steps: 600, created: BEGUN, status: "done", group: None }
    }
}

/// Steps of an epoch.
pub const EPOCH: u64 = 100;

/// What the training thread is at.
const SHARES: [(&str, f64); 6] = [
    ("share/engine.trainer/data wait", 8.0),
    ("share/engine.trainer/forward", 31.0),
    ("share/engine.trainer/backward", 40.0),
    ("share/engine.trainer/optimizer step", 9.0),
    ("share/engine.evaluator/forward", 5.0),
    ("share/handler.checkpoint", 2.5),
];

/// Writes a run.
pub fn run(root: &Path, name: &str, spec: &Spec) -> PathBuf {
    let folder = root.join(name);
    fs::create_dir_all(folder.join("pipelines")).unwrap();
    fs::create_dir_all(folder.join("machine")).unwrap();
    write_json(&folder, "run.json", &info(spec));
    fs::write(folder.join("pipeline.toml"), pipeline(spec)).unwrap();
    write_json(
        &folder,
        "pipelines/origins.json",
        &json!({ "optimizer.sgd.lr": "--set optimizer.sgd.lr", "engine.trainer.max_epochs": "digits.toml:33, profile demo" }),
    );
    let lines = [
        json!({ "edit": 0, "outcome": "started", "step": 0, "epoch": 0, "version": "000_step_000000.toml", "seconds": 0.0, "time": spec.created }),
        json!({ "edit": 1, "outcome": "applied", "step": 250, "epoch": 3, "time": spec.created + 125.0, "changes": [
            { "name": "optimizer.sgd.lr", "place": "digits.toml:20", "change": format!("{} → {}", spec.lr * 2.0, spec.lr), "meaning": "now" }] }),
        json!({ "edit": 2, "outcome": "refused", "step": 400, "epoch": 4, "time": spec.created + 200.0, "reason": "weights-lost: model.net has other shapes",
            "changes": [{ "name": "model.net.layers", "change": "other", "meaning": "refused" }] }),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(folder.join("pipelines/index.jsonl"), text).unwrap();
    let console: String = (1..=spec.steps / EPOCH)
        .map(|epoch| {
            format!(
                "epoch {epoch}/{}  trainer  loss {:.4}  lr {}\n",
                spec.steps / EPOCH,
                loss(spec, epoch * EPOCH),
                spec.lr
            )
        })
        .collect();
    fs::write(folder.join("console.log"), console).unwrap();
    let history = History::of(&folder);
    measure(&history, spec, 1..=spec.steps);
    show(&history, spec);
    drop(history);
    let mut machine = Writer::open(&folder.join("machine"), None).unwrap();
    for at in 0..spec.steps / 10 {
        let point = |value| Point { step: at, epoch: 0, time: spec.created + at as f64 * 5.0, value };
        machine.push("cpu_percent", &"run", point(150.0 + 40.0 * (at as f64 / 7.0).sin())).unwrap();
        for (tag, share) in SHARES {
            machine.push(tag, &"run", point(share)).unwrap();
        }
        machine.push("memory_mib", &"run", point(900.0 + at as f64)).unwrap();
    }
    machine.flush().unwrap();
    checkpoints(&folder, spec);
    if let Some(group) = spec.group {
        write_json(&folder, "about.json", &json!({ "group": group }));
    }
    folder.canonicalize().unwrap()
}

fn write_json(folder: &Path, name: &str, value: &Value) {
    fs::write(folder.join(name), serde_json::to_string_pretty(value).unwrap()).unwrap();
}

/// What `run.json` says of a run.
pub fn info(spec: &Spec) -> Value {
    json!({
        "format": 1, "status": spec.status, "name": "digits", "created": spec.created, "started": spec.created,
        "seconds": spec.steps as f64 * 0.5, "seed": spec.seed, "device": "cpu", "generation": 0,
        "versions": { "pipe": "0.1.0", "libtorch": "2.11.0" }, "machine": { "host": "here", "cores": 2 },
        "git": { "commit": "0123456789abcdef", "branch": "main", "dirty": false },
        "command": ["pipe", "run", "digits.toml"], "data": { "dataset.train": { "type": "mnist", "samples": 6400, "fingerprint": "crc32:1" } },
        "error": if spec.status == "failed" { json!("out of memory at step 77") } else { Value::Null },
        "values": { "metric.accuracy:accuracy": accuracy(spec, spec.steps) },
    })
}

fn pipeline(spec: &Spec) -> String {
    format!(
        r#"[pipeline]
name = "digits"
seed = {seed}

[dataset.train]
type = "mnist"
root = "builtin:digits"

[transform.train]
type = "normalize"

[loader.train]
type = "batch"
dataset = "dataset.train"
transform = "transform.train"
batch_size = 64

[model.net]
type = "sequential"

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = {lr:?}
momentum = 0.9

[scheduler.decay]
type = "cosine"
optimizer = "optimizer.sgd"

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = {epochs}

[metric.accuracy]
type = "accuracy"

[engine.evaluator]
type = "evaluate"
model = "model.net"
loader = "loader.train"
metrics = ["metric.accuracy"]

[handler.checkpoint]
type = "checkpoint"
monitor = "metric.accuracy"

[sink.tensorboard]
type = "tensorboard"

[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.evaluator", "handler.checkpoint"]

[[on]]
event = "engine.trainer:iteration_completed"
run = ["scheduler.decay"]
"#,
        seed = spec.seed,
        lr = spec.lr,
        epochs = spec.steps / EPOCH,
    )
}

/// Numbers that look drawn by chance, the same each time.
fn noise(of: u64) -> f64 {
    let mut x = of.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 31;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 29;
    (x >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}

/// A loss that falls the faster the larger the rate is, and stays higher for it.
pub fn loss(spec: &Spec, step: u64) -> f64 {
    let t = step as f64;
    2.3 * (-t * spec.lr * 0.03).exp()
        + 0.05
        + spec.lr * 0.3
        + 0.15 * noise(step ^ spec.seed << 40) * (1.0 + 2.0 * (-t / 300.0).exp())
}

/// A rate that falls and rises again.
pub fn rate(spec: &Spec, step: u64) -> f64 {
    spec.lr * (1.0 + (step as f64 / 600.0 * std::f64::consts::PI).cos()) / 2.0
}

fn accuracy(spec: &Spec, step: u64) -> f64 {
    (1.0 - loss(spec, step) * 0.4).clamp(0.05, 0.995)
}

/// Measures steps, as a run at work does.
pub fn measure(history: &History, spec: &Spec, steps: std::ops::RangeInclusive<u64>) {
    for step in steps {
        let (epoch, time) = ((step - 1) / EPOCH + 1, spec.created + step as f64 * 0.5);
        let add = |tag: &str, node: &str, value: f64| {
            let node: NodeId = node.parse().unwrap();
            history.add(&Record { tag: tag.into(), node, step, epoch, time, value: RecordValue::Scalar(value) });
        };
        let nan = step == 333 && spec.lr > 0.25;
        add("train/loss", "engine.trainer", if nan { f64::NAN } else { loss(spec, step) });
        add("train/lr", "engine.trainer", rate(spec, step));
        if step.is_multiple_of(EPOCH) {
            add("eval/accuracy", "metric.accuracy", accuracy(spec, step));
            add("eval/loss", "metric.loss", loss(spec, step) * 1.1);
        }
    }
    history.flush();
}

fn show(history: &History, spec: &Spec) {
    for epoch in 1..=spec.steps / EPOCH {
        let add = |tag: &str, value: RecordValue| {
            let (step, time) = (epoch * EPOCH, spec.created + (epoch * EPOCH) as f64 * 0.5);
            let node: NodeId = "handler.show".parse().unwrap();
            history.add(&Record { tag: tag.into(), node, step, epoch, time, value });
        };
        let (height, width) = (96, 128);
        let pixel = |at: usize| {
            let (x, y) = (at % width, at / width);
            let inside = (x as f64 - 20.0 - epoch as f64 * 8.0).hypot(y as f64 - 48.0) < 22.0;
            if inside { [230, 120, (spec.seed * 60 % 256) as u8] } else { [x as u8, 40 + y as u8, 90] }
        };
        let rgb = (0..height * width).flat_map(pixel).collect();
        add("samples/batch", RecordValue::Image { height, width, rgb, objects: Some(Box::new(objects(epoch))) });
        let values = (0..2000)
            .map(|at| (noise(at + epoch * 7919) + noise(at * 31)) as f32 * (1.0 + epoch as f32 / 4.0))
            .collect();
        add("weights/net", RecordValue::Histogram(values));
        let falling = |most: f64| (0..=20).map(|t| (most * (1.0 - f64::from(t) / 20.0).powf(0.5)) as u32).collect();
        add(
            "pr/circle",
            RecordValue::PrCurve {
                true_positives: falling(80.0 + epoch as f64),
                false_positives: falling(60.0 - epoch as f64 * 5.0),
                positives: 100,
            },
        );
        let right = (60 + epoch * 5) as u32;
        add(
            "eval/coco/bbox/confusion",
            RecordValue::Confusion {
                names: ["ring", "square", "background"].map(str::to_owned).to_vec(),
                cells: vec![[0, 0, right], [0, 1, 9], [0, 2, 91 - right], [1, 0, 4], [1, 1, 30], [2, 1, 6]],
            },
        );
        add("notes", RecordValue::Text(format!("after **epoch {epoch}** all is well <b>not bold</b>")));
    }
    history.flush();
}

/// A ring of the ground truth, and what was found: it, and something else.
fn objects(epoch: u64) -> Objects {
    let (left, top) = (20.0 + epoch as f32 * 8.0 - 22.0, 26.0);
    let ring =
        Object { class: 1, name: "ring".into(), bbox: Some([left, top, left + 44.0, top + 44.0]), ..Object::default() };
    let mask: Vec<u8> = (0..96 * 128)
        .map(|at| u8::from(((at % 128) as f32 - left - 22.0).hypot((at / 128) as f32 - 48.0) < 22.0))
        .collect();
    let found = [
        Object {
            score: Some(0.9),
            mask: pipe_vocab::objects::runs(&mask),
            points: vec![[left + 22.0, 48.0, 2.0]],
            ..ring.clone()
        },
        Object {
            class: 2,
            name: "square".into(),
            bbox: Some([70.0, 10.0, 110.0, 40.0]),
            score: Some(0.3),
            ..Object::default()
        },
    ];
    Objects { truth: Some(vec![ring]), found: Some(found.to_vec()), threshold: Some(0.5), only_masks: false }
}

fn checkpoints(folder: &Path, spec: &Spec) {
    for step in [spec.steps / 2, spec.steps] {
        let own = folder.join(format!("checkpoints/step_{step:06}"));
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("model.net.safetensors"), vec![7u8; 30_000]).unwrap();
        write_json(&own, "complete.json", &json!({ "files": {} }));
    }
    let best = json!({ "name": format!("step_{:06}", spec.steps / 2), "value": 0.97, "monitor": "metric.accuracy" });
    write_json(&folder.join("checkpoints"), "best.json", &best);
}
