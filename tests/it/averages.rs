//! Averages of training and arithmetic on metrics, in a run and over a resume inside an epoch.

use serde_json::Value;

use super::program::Pipe;

const MORE: &str = r#"
[metric.p]
type = "precision"

[metric.r]
type = "recall"

[metric.f1]
type = "expression"
value = "2 * metric.p:precision * metric.r:recall / (metric.p:precision + metric.r:recall)"
tag = "val/f1"

[metric.auc]
type = "roc_auc"

[metric.best]
type = "running_average"
value = "metric.f1:value"
alpha = 0.5

[engine.evaluator]
metrics = ["metric.p", "metric.r", "metric.f1", "metric.auc"]

[metric.epoch_loss]
type = "mean"
value = "engine.trainer:loss"
tag = "train/epoch_loss"

[metric.running_loss]
type = "running_average"
value = "engine.trainer:loss"
alpha = 0.9
tag = "train/running_loss"

[metric.train_accuracy]
type = "accuracy"

[metric.train_auc]
type = "roc_auc"

[handler.checkpoint]
type = "checkpoint"
keep_last = 20

[[on]]
event = "engine.trainer:iteration_completed"
run = ["metric.epoch_loss:update", "metric.running_loss", "metric.train_accuracy:update", "metric.train_auc:update"]

[[on]]
event = "engine.trainer:iteration_completed"
every = 3
run = ["handler.checkpoint"]

[[on]]
event = "engine.trainer:epoch_completed"
run = [
  "metric.epoch_loss", "metric.epoch_loss:reset", "metric.train_accuracy", "metric.train_accuracy:reset",
  "metric.train_auc", "metric.train_auc:reset", "engine.evaluator", "metric.best",
]

[[on]]
event = "engine.trainer:epoch_started"
run = ["metric.running_loss:reset"]
"#;

fn values(records: &[Value], tag: &str) -> Vec<f64> {
    let of = records.iter().filter(|record| record["tag"] == tag);
    of.map(|record| record["value"].as_f64().unwrap_or_else(|| panic!("{record}"))).collect()
}

#[test]
fn averages_and_expressions_are_what_they_say_and_go_on_after_a_resume() {
    let pipe = Pipe::digits("run.toml", MORE);
    pipe.ok(&["run", "run.toml", "--quiet", "--out", "whole"]);
    let records = pipe.scalars("whole");
    let losses = values(&records, "train/loss");
    let (means, running) = (values(&records, "train/epoch_loss"), values(&records, "train/running_loss"));
    assert_eq!((losses.len(), means.len(), running.len()), (16, 4, 16));
    for (epoch, mean) in losses.chunks(4).zip(&means) {
        assert!((epoch.iter().sum::<f64>() / 4.0 - mean).abs() < 1e-12, "{mean} of {epoch:?}");
    }
    for (epoch, averages) in losses.chunks(4).zip(running.chunks(4)) {
        let mut average = epoch[0];
        for (loss, seen) in epoch.iter().zip(averages) {
            average = 0.9 * average + 0.1 * loss;
            assert!((average - seen).abs() < 1e-12, "{averages:?} of {epoch:?}");
        }
    }
    let [p, r, f1] = ["val/p/precision", "val/r/recall", "val/f1"].map(|tag| values(&records, tag));
    let by_hand: Vec<f64> = p.iter().zip(&r).map(|(p, r)| 2.0 * p * r / (p + r)).collect();
    assert_eq!((f1.len(), f1), (4, by_hand));
    assert!(values(&records, "val/auc/roc_auc").iter().all(|auc| (0.5..=1.0).contains(auc)));

    for step in [3, 6] {
        let (out, from) = (format!("from_{step}"), format!("from_{step}/checkpoints/step_{step:06}"));
        std::process::Command::new("cp").args(["-r", "whole", &out]).current_dir(pipe.folder()).status().expect("cp");
        pipe.ok(&["run", "run.toml", "--quiet", "--resume", &from]);
        assert_eq!(pipe.scalars(&out), records, "resumed from {step}");
    }
}

/// A model of numbers: the label as a number, its errors in the evaluation.
#[test]
fn numbers_are_learnt_and_judged() {
    let more = r#"
[model.net]
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 1 }]
loss = { type = "mse", target = "label" }

[optimizer.sgd]
lr = 0.0002

[metric.error]
type = "regression"
target = "label"

[metric.loss]
type = "loss"

[engine.evaluator]
metrics = ["metric.error", "metric.loss"]

[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.evaluator"]
"#;
    let pipe = Pipe::digits("run.toml", more);
    pipe.ok(&["run", "run.toml", "--quiet", "--out", "run"]);
    let records = pipe.scalars("run");
    let [mse, rmse, loss, r2] =
        ["val/error/mse", "val/error/rmse", "val/loss", "val/error/r2"].map(|tag| values(&records, tag));
    assert_eq!(mse.len(), 4);
    for i in 0..4 {
        assert!(
            (mse[i] - loss[i]).abs() < 1e-4 * loss[i] && (rmse[i] - mse[i].sqrt()).abs() < 1e-12,
            "{mse:?} {loss:?}"
        );
    }
    assert!(mse[3] < mse[0] && r2[3] > r2[0] && values(&records, "train/mse").len() == 16, "{mse:?}, {r2:?}");
    let said = pipe.run(&["check", "run.toml", "--set", "model.net.loss.target='age'"]);
    assert!(said.status == Some(2) && said.stderr.contains("needs `age`"), "{}", said.stderr);
}
