//! Running trainings are edited, good and bad, one edit after another: what the program reported and what the records show.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::session::{Session, at, curve, place};

/// Ends the training by an edit, and checks what holds for every session; its records and the step of that edit.
fn finish(session: &mut Session) -> (Vec<Value>, u64) {
    let (end, _) = session.applied("max_epochs = 100000", "max_epochs = 1");
    session.end();
    check_versions(session);
    let records = session.records();
    let loss = losses(&records);
    let last = loss.iter().map(|(step, _)| *step).max().unwrap_or_default();
    assert!(last < end + 16, "the epoch was ended, and no other begun");
    (records, end)
}

/// Every version is kept, the newest is the one of the last edit.
fn check_versions(session: &Session) {
    let versions: Vec<String> = std::fs::read_dir(session.path("run/pipelines"))
        .expect("versions")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    let applied = session.index().iter().filter(|line| line["outcome"] == "applied").count();
    assert_eq!(versions.len(), applied + 1, "{versions:?}");
    let newest = std::fs::read_to_string(session.path("run/pipeline.toml")).expect("the newest");
    assert!(newest.contains("max_epochs = 1\n") && newest.contains("seed = 7\n"), "{newest}");
}

fn losses(records: &[Value]) -> Vec<(u64, f64)> {
    curve(records, LOSS)
}

/// One curve, without a gap and without a new beginning, up to this step.
fn assert_dense(loss: &[(u64, f64)], until: u64) {
    let steps: Vec<u64> = loss.iter().map(|(step, _)| *step).take_while(|step| *step <= until).collect();
    assert_eq!(steps, (1..=until).collect::<Vec<_>>());
}

fn at_epoch(records: &[Value], step: u64) -> i32 {
    let record = records.iter().find(|record| record["step"] == step).expect("a record of the step");
    record["epoch"].as_i64().expect("an epoch") as i32
}

const LOSS: &str = "train/cross_entropy";
const TOTAL: &str = "train/loss";
const LR: &str = "train/lr";

#[test]
fn values_of_optimizer_and_scheduler_change_at_once_and_counts_go_on() {
    let mut session = Session::start();
    // At its line.
    let (lr_at, line) = session.applied("lr = 0.05", "lr = 0.02");
    assert_eq!((&line["changes"][0]["from"], &line["changes"][0]["to"]), (&0.05.into(), &0.02.into()));
    assert_eq!(line["changes"][0]["name"], "optimizer.sgd.lr");
    let number = session.text.lines().position(|line| line.starts_with("lr = ")).unwrap() + 1;
    assert_eq!(place(&line, 0), format!("edited.toml:{number}"));
    // A misspelt key, and the text put back.
    session.rejected("momentum = 0.9", "momentun = 0.9", "invalid", "did you mean `momentum`?");
    // Momentum, with its buffers kept.
    let (_, line) = session.applied("momentum = 0.9", "momentum = 0.8");
    assert!(line["rebuilt"].to_string().contains("scheduler.decay (holds optimizer.sgd)"), "{line}");
    // What a run cannot change, with something that it could: nothing of it is applied.
    session.rejected("seed = 7\n", "seed = 8\nprecision = \"bf16\"\n", "refused", "`pipeline.seed`");
    // A scheduler's value. Its count goes on.
    let (gamma_at, _) = session.applied("gamma = 0.999", "gamma = 0.998");
    let (records, end) = finish(&mut session);

    assert_dense(&losses(&records), end);
    let lr = curve(&records, LR);
    assert!((at(&lr, lr_at + 1) / at(&lr, lr_at) - 0.4).abs() < 0.01, "0.05 → 0.02 right after step {lr_at}");
    let expected = 0.02 * 0.998f64.powi(at_epoch(&records, gamma_at + 1) - 1);
    // Between the epoch's last step and the next, the scheduler has stepped once more.
    let ratio = at(&lr, gamma_at + 1) / expected;
    assert!((ratio - 1.0).abs() < 1e-9 || (ratio * 0.998 - 1.0).abs() < 1e-9, "the scheduler's count went on: {ratio}");
}

/// A schedule of momentum comes, changes and goes: its factor with it.
#[test]
fn schedules_of_other_settings_come_change_and_go() {
    let mut session = Session::start();
    let more = r#"[handler.settings]
type = "optimizer_settings"
optimizer = "optimizer.sgd"

[scheduler.momentum]
type = "piecewise_linear"
target = "optimizer.sgd:momentum"
points = [[0, 0.5]]

[[on]]
event = "engine.trainer:iteration_completed"
run = ["handler.settings", "scheduler.momentum"]

"#;
    let (came, _) = session.applied("[[on]]", &format!("{more}[[on]]"));
    session.rejected("sgd:momentum", "sgd:momentun", "invalid", "did you mean `optimizer.sgd:momentum`?");
    let (changed, line) = session.applied("[[0, 0.5]]", "[[0, 0.25]]");
    assert!(line["rebuilt"].to_string().contains("optimizer.sgd"), "{line}");
    let target = "target = \"optimizer.sgd:momentum\"\npoints = [[0, 0.25]]";
    let (gone, _) = session.applied(target, "optimizer = \"optimizer.sgd\"\nrelative = true\npoints = [[0, 1.0]]");
    let (records, _) = finish(&mut session);
    let momentum = curve(&records, "sgd/momentum");
    let seen: Vec<u64> = momentum.iter().map(|(step, _)| *step).collect();
    assert_eq!(seen, (came + 1..=gone).collect::<Vec<_>>());
    assert_eq!((at(&momentum, came + 1), at(&momentum, changed), at(&momentum, changed + 1)), (0.5, 0.5, 0.25));
}

/// A number of the engine at work is scheduled, changed together with the engine, and left again.
#[test]
fn schedules_of_an_engine_come_change_and_go() {
    let mut session = Session::start();
    let scheduler = r#"[scheduler.clipping]
type = "exponential"
target = "engine.trainer:clip_grad_norm"
gamma = 0.5

[[on]]
event = "engine.trainer:iteration_completed"
run = ["scheduler.clipping"]

"#;
    // Both at once: what is driven is there with the engine's new part only.
    let both = session.text.replace("log_interval = 1", "log_interval = 1\nclip_grad_norm = 8.0");
    let line = session.save(both.replacen("[[on]]", &format!("{scheduler}[[on]]"), 1));
    assert_eq!(line["outcome"], "applied", "{line}");
    let came = line["step"].as_u64().unwrap();
    let (changed, _) = session.applied("clip_grad_norm = 8.0", "clip_grad_norm = 4.0");
    let (gone, _) = session.applied(scheduler, "");
    let (records, _) = finish(&mut session);
    let norms = curve(&records, "trainer/clip_grad_norm");
    let expected = |step: u64| 0.5f64.powi((step - came - 1) as i32) * if step <= changed { 8.0 } else { 4.0 };
    let steps: Vec<u64> = norms.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (came + 1..=gone).collect::<Vec<_>>());
    assert!(norms.iter().all(|(step, norm)| (norm / expected(*step) - 1.0).abs() < 1e-9), "{norms:?}");
}

/// What a metric measured that is no part of the run any more is not among its values at the end.
#[test]
fn a_metric_that_goes_takes_its_values_along() {
    let mut session = Session::start();
    let confusion = "[metric.confusion]\ntype = \"confusion_matrix\"\n\n";
    let both = session.text.replace("[\"metric.accuracy\"]", "[\"metric.accuracy\", \"metric.confusion\"]");
    let line = session.save(both.replacen("[[on]]", &format!("{confusion}[[on]]"), 1));
    assert_eq!(line["outcome"], "applied", "{line}");
    let records = session.path("run/records.jsonl");
    let measured = || std::fs::read_to_string(&records).is_ok_and(|text| text.contains("metric.confusion"));
    let start = Instant::now();
    while !measured() {
        assert!(start.elapsed() < Duration::from_secs(120), "{}", session.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let without = session.text.replace(confusion, "").replace(", \"metric.confusion\"", "");
    assert_eq!(session.save(without)["outcome"], "applied");
    finish(&mut session);
    let info = std::fs::read_to_string(session.path("run/run.json")).expect("run.json");
    assert!(info.contains("metric.accuracy:accuracy") && !info.contains("metric.confusion:accuracy"), "{info}");
    let told = std::fs::read_to_string(session.path("run/console.log")).expect("console.log");
    assert!(told.contains("done after") && !told.contains("label \\ prediction"), "{told}");
}

#[test]
fn sinks_and_handlers_come_change_and_go() {
    let mut session = Session::start();
    let (sink_at, _) = session.applied("[[on]]", "[sink.log]\ntype = \"json_lines\"\npath = \"more.jsonl\"\n\n[[on]]");
    // A handler, with its event.
    let handler = "[handler.samples]\ntype = \"sample_images\"\nmax_images = 4\n";
    let event = "[[on]]\nevent = \"engine.trainer:iteration_completed\"\nevery = 2\nrun = [\"handler.samples\"]\n";
    let (handler_at, _) = session.applied("[sink.log]", &format!("{handler}\n{event}\n[sink.log]"));
    // It goes on under another tag.
    let (tag_at, _) = session.applied("max_images = 4", "max_images = 4\ntag = \"other\"");
    // It is removed, with its event.
    let start = session.text.find("[handler.samples]").unwrap();
    let end = session.text.find("[sink.log]").unwrap();
    let without = format!("{}{}", &session.text[..start], &session.text[end..]);
    let line = session.save(without);
    assert_eq!(line["outcome"], "applied", "{line}");
    let removed_at = line["step"].as_u64().unwrap();
    // No more checkpoints.
    let (checkpoint_at, _) = session.applied("\"handler.checkpoint\", ", "");
    let (records, end) = finish(&mut session);

    assert_dense(&losses(&records), end);
    // The handler was called on even steps, under one tag and then the other, and then no more.
    let drawn = |tag: &str| -> Vec<u64> {
        let own = records.iter().filter(|record| record["kind"] == "image" && record["tag"] == tag);
        own.map(|record| record["step"].as_u64().unwrap()).collect()
    };
    let even = |from: u64, to: u64| (from + 1..=to).filter(|step| step % 2 == 0).collect::<Vec<_>>();
    assert_eq!(drawn("samples"), even(handler_at, tag_at));
    assert_eq!(drawn("other"), even(tag_at, removed_at));

    // The sink has what came after it was added.
    let more = std::fs::read_to_string(session.path("more.jsonl")).expect("the new sink's file");
    let first: Value = serde_json::from_str(more.lines().next().expect("a record")).expect("JSON");
    // Applied between the last iteration of an epoch (of 8) and its end, it also has what is recorded there.
    let at_end = sink_at % 8 == 0 && first["step"] == sink_at;
    assert!(at_end || first["step"] == sink_at + 1, "{first} after {sink_at}");

    let saved: Vec<u64> = records
        .iter()
        .filter(|record| record["tag"] == "checkpoint")
        .map(|record| record["step"].as_u64().unwrap())
        .collect();
    assert!(saved.iter().all(|step| *step <= checkpoint_at), "{saved:?} after {checkpoint_at}");
}

#[test]
fn data_change_at_the_end_of_the_epoch() {
    let mut session = Session::start();
    // Batches of another size, fewer samples, a transform, and workers.
    let batch_at = session.applied_at_epoch("batch_size = 32", "batch_size = 16");
    let limit_at = session.applied_at_epoch("limit = 256", "limit = 128");
    session.applied_at_epoch("degrees = 10", "degrees = 5");
    session.applied_at_epoch("workers = 1", "workers = 2");
    // Data that are not there.
    session.rejected("root = \"builtin:digits\"", "root = \"nowhere\"", "refused", "cannot build dataset.train");
    let (records, end) = finish(&mut session);

    let loss = losses(&records);
    assert_dense(&loss, end);
    let mean = |from: u64, to: u64| {
        let part: Vec<f64> = loss.iter().filter(|(step, _)| (from..to).contains(step)).map(|(_, loss)| *loss).collect();
        part.iter().sum::<f64>() / part.len() as f64
    };
    assert!(mean(limit_at - 8, limit_at) < 0.7 * mean(1, 4), "it had learnt");
    assert!(mean(limit_at + 1, limit_at + 9) < 0.7 * mean(1, 4), "and went on from there");
    // Steps of an epoch: 256 / 32, then 256 / 16, then 128 / 16.
    let length = |step: u64| {
        let epoch = at_epoch(&records, step);
        loss.iter().filter(|(step, _)| at_epoch(&records, *step) == epoch).count()
    };
    assert_eq!((length(batch_at), length(batch_at + 1), length(limit_at + 1)), (8, 16, 8));
}

#[test]
fn models_and_losses_change_at_once_or_are_refused() {
    let mut session = Session::start();
    // A wider model keeps what fits.
    let layer = "  { type = \"relu\" },\n  { type = \"linear\", in_features = 24, out_features = 10 },\n";
    let wider =
        format!("  {{ type = \"relu\" }},\n  {{ type = \"linear\", in_features = 24, out_features = 24 }},\n{layer}");
    let (_, line) = session.applied(layer, &wider);
    let weights = &line["weights"][0];
    assert_eq!(weights["kept"].to_string(), r#"["1.weight","1.bias"]"#, "{line}");
    assert_eq!(weights["new"].to_string(), r#"["3.weight","3.bias","5.weight","5.bias"]"#, "{line}");
    assert_eq!(weights["dropped"].to_string(), r#"["3.weight","3.bias"]"#, "{line}");
    // A model that can be built but not run.
    session.rejected(
        "in_features = 24, out_features = 10",
        "in_features = 23, out_features = 10",
        "refused",
        "engine.trainer: trying a batch",
    );
    // A weight of a loss that the model does not have, and of one that it has.
    session.rejected(
        "log_interval = 1",
        "log_interval = 1\nloss_weights = { crossentropy = 2.0 }",
        "refused",
        "the model's losses are cross_entropy",
    );
    let weight = "log_interval = 1\nloss_weights = { cross_entropy = 2.0 }";
    let (weight_at, _) = session.applied("log_interval = 1", weight);
    let (records, end) = finish(&mut session);

    let loss = losses(&records);
    assert_dense(&loss, end);
    let total = curve(&records, TOTAL);
    for (step, factor) in [(weight_at, 1.0), (weight_at + 1, 2.0)] {
        assert!((at(&total, step) / at(&loss, step) - factor).abs() < 1e-6, "loss weight at step {step}");
    }
}

#[test]
fn records_become_fewer_and_a_signal_reads_the_file_too() {
    let mut session = Session::start();
    // There is nothing new in it.
    let id = session.program.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().expect("kill runs").success());
    assert_eq!(session.next_line()["outcome"], "unchanged");
    let (interval_at, _) = session.applied("log_interval = 1", "log_interval = 5");
    let (records, _) = finish(&mut session);

    let loss = losses(&records);
    assert_dense(&loss, interval_at);
    assert!(loss.iter().filter(|(step, _)| *step > interval_at).all(|(step, _)| step % 5 == 0));
}

#[test]
fn an_edit_of_what_the_command_line_has_set_is_told() {
    let mut session = Session::with_sets(&["engine.trainer.max_epochs=99999", "vars.decay=0.998"], |text| {
        text.replace("gamma = 0.999", "gamma = \"${decay}\"\n\n[vars]\ndecay = 0.999")
    });
    let shadowed = "engine.trainer.max_epochs is set by --set; the file's value is not used";
    let line = session.edit("max_epochs = 100000", "max_epochs = 50000");
    assert_eq!((&line["outcome"], &line["notes"]), (&"unchanged".into(), &serde_json::json!([shadowed])), "{line}");
    assert!(session.log().contains(shadowed));
    // Once, and beside what is applied.
    let (_, line) = session.applied("lr = 0.05", "lr = 0.02");
    assert_eq!(line["notes"], serde_json::Value::Null, "{line}");
    let text = session.text.replace("decay = 0.999", "decay = 0.5").replace("lr = 0.02", "lr = 0.01");
    let line = session.save(text);
    assert_eq!(line["outcome"], "applied", "{line}");
    assert_eq!(line["notes"], serde_json::json!(["vars.decay is set by --set; the file's value is not used"]));
    assert_eq!(line["changes"].as_array().map(Vec::len), Some(1), "{line}");
}

#[test]
fn named_edges_change_while_a_run_goes_on() {
    let mut session = Session::of(
        "extends = \"parent.toml\"\n[[on]]\nname = \"epoch\"\nrun = [\"scheduler.decay\", \"handler.checkpoint\"]\n"
            .into(),
        |folder| {
            let parent = super::session::PIPELINE.replace("[[on]]\n", "[[on]]\nname = \"epoch\"\n");
            std::fs::write(folder.join("parent.toml"), parent).expect("written");
        },
    );
    let (_, line) = session
        .applied("[\"scheduler.decay\", \"handler.checkpoint\"]", "[\"handler.checkpoint\", \"engine.evaluator\"]");
    let changes: Vec<&str> =
        line["changes"].as_array().unwrap().iter().map(|c| c["change"].as_str().unwrap()).collect();
    assert_eq!(
        changes,
        [
            "added: epoch: engine.trainer:epoch_completed → handler.checkpoint, engine.evaluator",
            "removed: epoch: engine.trainer:epoch_completed → scheduler.decay, handler.checkpoint"
        ]
    );
    let line = session.save("extends = \"parent.toml\"\nunset = [\"on.epoch\"]\n".into());
    assert_eq!(line["outcome"], "applied", "{line}");
}
