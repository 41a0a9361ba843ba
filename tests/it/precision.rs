//! Training in half precision on the CPU.

use super::program::Pipe;

const PIPELINE: &str = r#"
[pipeline]
seed = 3

[dataset.train]
limit = 128

[loader.train]
batch_size = 32
shuffle = false

[model.net]
layers = [
  { type = "flatten" },
  { type = "linear", in_features = 784, out_features = 32 },
  { type = "relu" },
  { type = "linear", in_features = 32, out_features = 10 },
]

[optimizer.sgd]
lr = 0.4
momentum = 0.0

[engine.trainer]
clip_grad_norm = 5.0

[handler.checkpoint]
type = "checkpoint"

[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.checkpoint"]
"#;

/// The losses of a run of four epochs of four batches, and the state of its trainer's process at the end.
fn trained(pipe: &Pipe, precision: &str) -> (Vec<f64>, serde_json::Value) {
    let set = format!("pipeline.precision={precision:?}");
    pipe.ok(&["run", "half.toml", "--quiet", "--out", precision, "--set", &set]);
    let scalars = pipe.scalars(precision);
    let is_loss = |record: &&serde_json::Value| record["tag"] == "train/loss";
    let losses = scalars.iter().filter(is_loss);
    let losses = losses.map(|record| record["value"].as_f64().expect("a number")).collect();
    let state = pipe.json(&format!("{precision}/checkpoints/step_000016/state.json"));
    (losses, state["nodes"]["engine.trainer"]["process"].clone())
}

#[test]
fn half_precision_trains_and_fp16_saves_its_scaler() {
    let pipe = Pipe::digits("half.toml", PIPELINE);
    let (full, process) = trained(&pipe, "fp32");
    assert!(process["scaler"].is_null(), "{process}");
    for precision in ["bf16", "fp16"] {
        let (losses, process) = trained(&pipe, precision);
        assert_eq!(losses.len(), 16);
        assert!(losses.iter().all(|loss| loss.is_finite()), "{precision}: {losses:?}");
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        assert!(mean(&losses[12..]) < 0.9 * mean(&losses[..4]), "{precision}: {losses:?}");
        assert_ne!(losses, full, "{precision} computes otherwise");
        for (half, full) in losses.iter().zip(&full) {
            assert!((half - full).abs() < 0.05 * full.abs().max(0.2), "{precision}: {losses:?}, fp32: {full:?}");
        }
        if precision == "bf16" {
            assert!(process["scaler"].is_null(), "{process}");
            continue;
        }
        let scaler = &process["scaler"];
        assert_eq!(scaler["growth_tracker"], 16, "good steps in a row: {scaler}");
        assert_eq!(scaler["scale"], 65536.0, "{scaler}");
        pipe.ok(&[
            "run",
            "half.toml",
            "--quiet",
            "--out",
            precision,
            "--resume",
            precision,
            "--set",
            "pipeline.precision=\"fp16\"",
            "--set",
            "engine.trainer.max_epochs=5",
        ]);
        let state = pipe.json("fp16/checkpoints/step_000020/state.json");
        let scaler = &state["nodes"]["engine.trainer"]["process"]["scaler"];
        assert_eq!(scaler["growth_tracker"], 20, "a resume goes on counting: {scaler}");
    }
}
