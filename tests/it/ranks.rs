//! One run by several processes: `--devices cpu:N`.

use std::path::PathBuf;
use std::process::{Child, Command};

use pipe_core::ranks::draws;
use tch::{Kind, Tensor};

use super::program::{Pipe, Said, cache};
use super::signals::{kill, start, wait_for};

/// Digits in batches of 60, of which 12 are an epoch, learnt by a network that draws nothing.
const MORE: &str = r#"
[dataset.train]
limit = 720

[model.net]
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[loader.train]
batch_size = 60
workers = 0

[handler.checkpoint]
type = "checkpoint"

[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.checkpoint"]
"#;

fn digits() -> Pipe {
    Pipe::digits("ranks.toml", MORE)
}

/// Trains on so many processes to the end of an epoch, from where the run was left.
fn train(pipe: &Pipe, devices: &str, out: &str, epochs: u32, more: &[&str]) -> Said {
    let epochs = format!("engine.trainer.max_epochs={epochs}");
    let way = if pipe.path(out).exists() { "--resume" } else { "--out" };
    let run = ["run", "ranks.toml", "--quiet", "--devices", devices, way, out, "--set", &epochs];
    pipe.ok(&[&run, more].concat())
}

/// The model's file in the newest checkpoint.
fn newest_file(pipe: &Pipe, out: &str) -> PathBuf {
    let newest = pipe.names(&format!("{out}/checkpoints")).pop().expect("a checkpoint");
    let folder = pipe.path(&format!("{out}/checkpoints/{newest}"));
    let file = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let file = file.filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
    file.min_by_key(|path| path.to_string_lossy().contains("optimizer")).expect("weights")
}

/// The weights of the newest checkpoint.
fn weights(pipe: &Pipe, out: &str) -> Vec<(String, Tensor)> {
    let mut all = Tensor::read_safetensors(newest_file(pipe, out)).unwrap();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// The largest difference between the weights of two runs.
fn apart(pipe: &Pipe, one: &str, other: &str) -> f64 {
    let (one, other) = (weights(pipe, one), weights(pipe, other));
    assert_eq!(one.len(), other.len());
    let gaps = one.iter().zip(&other).map(|((_, a), (_, b))| (a - b).abs().max().double_value(&[]));
    gaps.fold(0.0, f64::max)
}

#[test]
fn two_processes_are_one_that_does_the_part_of_each_in_turn_to_the_bit() {
    let pipe = digits();
    train(&pipe, "cpu:2", "two", 1, &[]);
    let turns = ["--set", "loader.train.batch_size=30", "--set", "engine.trainer.accumulate=2"];
    train(&pipe, "cpu:1", "turns", 1, &turns);
    assert_eq!(apart(&pipe, "two", "turns"), 0.0);
    // As the file says.
    pipe.write("file.toml", "extends = \"ranks.toml\"\n[pipeline]\ndevices = \"cpu:2\"\n");
    pipe.ok(&["run", "file.toml", "--quiet", "--out", "file", "--set", "engine.trainer.max_epochs=1"]);
    assert_eq!(apart(&pipe, "two", "file"), 0.0);
    // Of one run: the first speaks, the other's log is kept.
    assert_eq!(pipe.json("two/run.json")["status"], "done");
    assert_eq!(pipe.names("two/ranks"), ["1"]);
    assert!(pipe.path("two/ranks/1/console.log").exists() && !pipe.path("two/ranks/1/checkpoints").exists());
}

/// Reads what lies behind the heading of the built-in digits' file.
fn bytes(file: &str, heading: usize) -> Tensor {
    let unpacked = Command::new("gzip").arg("-dc").arg(cache().join("digits").join(file)).output().expect("gzip runs");
    Tensor::from_slice(&unpacked.stdout[heading..])
}

/// A rank's draws are of the seed, the step and the rank: two processes with a network that draws do what is done here part by part.
#[test]
fn what_ranks_draw_is_what_one_draws_that_does_the_part_of_each_in_turn() {
    let drops = MORE.replace("{ type = \"flatten\" },", "{ type = \"flatten\" }, { type = \"dropout\", p = 0.4 },");
    let pipe = Pipe::digits("ranks.toml", &drops.replace("limit = 720", "limit = 60"));
    let more = ["--set", "loader.train.shuffle=false", "--set", "handler.checkpoint.keep_last=1"];
    train(&pipe, "cpu:1", "begun", 1, &[&more[..], &["--set", "optimizer.sgd.lr=0"]].concat());
    train(&pipe, "cpu:2", "two", 50, &more);
    let [bias, weight] = weights(&pipe, "begun").try_into().expect("a layer");
    let params = [weight, bias].map(|(_, param)| param.set_requires_grad(true));
    let images =
        bytes("train-images-idx3-ubyte.gz", 16).narrow(0, 0, 60 * 784).view([60, 784]).to_kind(Kind::Float) / 255;
    let labels = bytes("train-labels-idx1-ubyte.gz", 8).narrow(0, 0, 60).to_kind(Kind::Int64);
    let mut momentum = params.each_ref().map(Tensor::zeros_like);
    let mut losses = Vec::new();
    for step in 1..=50 {
        let part = |rank: i64| {
            pipe_native::generator::seed_all(draws(7, step, rank as u64)).expect("seeded");
            let dropped = images.narrow(0, 30 * rank, 30).dropout(0.4, true);
            let logits = dropped.linear(&params[0], Some(&params[1]));
            logits.cross_entropy_for_logits(&labels.narrow(0, 30 * rank, 30)) * 0.5
        };
        let loss = part(0) + part(1);
        losses.push(loss.double_value(&[]));
        loss.backward();
        tch::no_grad(|| {
            for (param, momentum) in params.iter().zip(&mut momentum) {
                *momentum = &*momentum * 0.9 + param.grad();
                let _ = param.shallow_clone().g_sub_(&(&*momentum * 0.05));
                param.shallow_clone().zero_grad();
            }
        });
    }
    let recorded = pipe.scalars("two");
    let recorded: Vec<f64> = recorded
        .iter()
        .filter(|record| record["tag"] == "train/loss")
        .map(|record| record["value"].as_f64().expect("a number"))
        .collect();
    assert_eq!(recorded.len(), losses.len());
    for (own, two) in losses.iter().zip(recorded) {
        assert!((own - two).abs() < 1e-5 * own, "{own} and {two}");
    }
    let [bias, weight] = weights(&pipe, "two").try_into().expect("a layer");
    for (own, (_, two)) in params.iter().zip([weight, bias]) {
        let gap = (own - two).abs().max().double_value(&[]);
        assert!(gap < 1e-6, "{gap}");
    }
}

/// The weights of classes in a part are others than in the batch.
#[test]
fn losses_are_divided_by_the_counts_of_all_where_that_is_asked_for() {
    let weights = "[20.0, 0.1, 5.0, 1.0, 1.0, 1.0, 1.0, 0.2, 1.0, 9.0]";
    let loss = format!("[model.net]\nloss = {{ type = \"cross_entropy\", class_weights = {weights} }}\n");
    let pipe = Pipe::digits("ranks.toml", &MORE.replace("[model.net]\n", &loss));
    train(&pipe, "cpu:1", "one", 1, &[]);
    train(&pipe, "cpu:2", "apart", 1, &[]);
    train(&pipe, "cpu:2", "together", 1, &["--set", "pipeline.sync_loss_counts=true"]);
    assert!(apart(&pipe, "one", "apart") > 1e-3);
    let gap = apart(&pipe, "one", "together");
    assert!(gap < 1e-5, "{gap}");
}

#[test]
fn a_run_goes_on_with_another_number_of_processes() {
    let pipe = digits();
    for (epochs, devices) in [(1, "cpu:2"), (2, "cpu:1"), (3, "cpu:3")] {
        train(&pipe, devices, "moved", epochs, &[]);
    }
    train(&pipe, "cpu:1", "alone", 3, &[]);
    let gap = apart(&pipe, "moved", "alone");
    assert!(gap < 1e-5, "{gap}");
    let (moved, alone) = (pipe.scalars("moved"), pipe.scalars("alone"));
    assert_eq!(moved.len(), alone.len());
    for (one, other) in moved.iter().zip(&alone) {
        assert_eq!((&one["tag"], &one["step"]), (&other["tag"], &other["step"]));
        let (one, other) = (one["value"].as_f64().unwrap(), other["value"].as_f64().unwrap());
        assert!((one - other).abs() <= 1e-5 * one.abs().max(1.0), "{one} and {other}");
    }
}

#[test]
fn a_batch_smaller_than_the_ranks_leaves_some_without_a_part() {
    let pipe = digits();
    // The last batch of the epoch has two samples.
    for (samples, accumulate) in [(14, 1), (14, 2), (8, 2)] {
        let (limit, group) =
            (format!("dataset.train.limit={samples}"), format!("engine.trainer.accumulate={accumulate}"));
        let few = ["--set", &limit, "--set", &group, "--set", "loader.train.batch_size=6"];
        let [three, alone] = ["three", "alone"].map(|name| format!("{name}-{samples}-{accumulate}"));
        train(&pipe, "cpu:3", &three, 2, &few);
        train(&pipe, "cpu:1", &alone, 2, &few);
        let gap = apart(&pipe, &three, &alone);
        assert!(gap < 1e-6, "{samples} samples, {accumulate} batches a step: {gap}");
    }
}

/// A network with batch norm.
const NORMED: &str = concat!(
    include_str!("ranks_normed.toml"),
    r#"
[dataset.train]
limit = 66

[handler.checkpoint]
type = "checkpoint"

[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.checkpoint"]
"#
);

#[test]
fn batch_norm_is_of_the_whole_batch_where_that_is_asked_for() {
    let pipe = Pipe::digits("ranks.toml", NORMED);
    // The last batch has two samples, one for each.
    train(&pipe, "cpu:2", "two", 2, &[]);
    train(&pipe, "cpu:1", "alone", 2, &[]);
    let gap = apart(&pipe, "two", "alone");
    assert!(gap < 1e-5, "{gap}");
    train(&pipe, "cpu:2", "apart", 2, &["--set", "pipeline.sync_batch_norm=false"]);
    assert!(apart(&pipe, "apart", "alone") > 1e-3);
    let said = pipe.run(&["run", "ranks.toml", "--quiet", "--devices", "cpu:3", "--out", "three"]);
    assert!(said.status == Some(1) && said.stderr.contains("set `drop_last = true`"), "{}", said.stderr);
}

/// An evaluation before anything is learnt, by all kinds of metrics, and a picture of its first batch.
const EVALUATED: &str = r#"
[loader.test]
batch_size = 7

[dataset.train]
limit = 50

[model.net]
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[metric.top]
type = "top_k_accuracy"
k = [1, 3]

[metric.matrix]
type = "confusion_matrix"

[metric.auc]
type = "roc_auc"

[metric.loss]
type = "loss"

[metric.sum]
type = "expression"
value = "metric.auc:roc_auc + metric.top:top_3"
tag = "val/sum"

[metric.trained]
type = "mean"
value = "engine.trainer:loss"
tag = "train/mean"

[engine.evaluator]
metrics = ["metric.accuracy", "metric.top", "metric.matrix", "metric.auc", "metric.loss", "metric.sum"]

[handler.samples]
type = "sample_images"
max_images = 9

[[on]]
event = "engine.evaluator:iteration_completed"
once = 1
run = ["handler.samples"]

[[on]]
event = "engine.trainer:started"
run = ["engine.evaluator"]

[[on]]
event = "engine.trainer:iteration_completed"
run = ["metric.trained:update"]

[[on]]
event = "engine.trainer:epoch_completed"
run = ["metric.trained"]
"#;

#[test]
fn an_evaluation_is_shared_and_comes_to_the_same() {
    // Of the last batch there is one sample, of which two ranks have nothing.
    let pipe = Pipe::digits("ranks.toml", EVALUATED);
    let few = ["--set", "loader.train.batch_size=20"];
    train(&pipe, "cpu:3", "three", 1, &few);
    train(&pipe, "cpu:1", "alone", 1, &few);
    let (three, alone) = (pipe.scalars("three"), pipe.scalars("alone"));
    let tags: Vec<&str> = alone.iter().filter_map(|one| one["tag"].as_str()).collect();
    for tag in ["val/accuracy", "val/top/top_3", "val/auc/roc_auc", "val/loss", "val/sum", "train/mean"] {
        assert!(tags.contains(&tag), "{tags:?}");
    }
    assert_eq!(three.len(), alone.len());
    for (one, other) in three.iter().zip(&alone) {
        assert_eq!((&one["tag"], &one["step"]), (&other["tag"], &other["step"]));
        let exact = one["tag"].as_str().is_some_and(|tag| tag.starts_with("val/") && !tag.contains("loss"));
        let (one_value, other_value) = (one["value"].as_f64().unwrap(), other["value"].as_f64().unwrap());
        let gap = (one_value - other_value).abs();
        assert!(gap <= if exact { 1e-12 } else { 1e-5 }, "{one} {other}");
    }
    // What the others go by.
    let of_other = pipe.scalars("three/ranks/1");
    let of =
        |all: &[serde_json::Value], tag: &str| all.iter().find(|one| one["tag"] == tag).map(|one| one["value"].clone());
    assert_eq!(of(&of_other, "val/auc/roc_auc"), of(&three, "val/auc/roc_auc"));
    // Seven pictures of the first batch, of which the first rank has three.
    let widths = ["alone", "three"].map(|run| {
        let media = pipe.read(&format!("{run}/media.jsonl"));
        media.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).next().expect("a picture")
    });
    assert_ne!(widths[0], widths[1]);
}

/// The step of the newest checkpoint of the run at work.
fn newest(pipe: &Pipe) -> u64 {
    let name = pipe.names("life/checkpoints").pop().expect("a checkpoint");
    name.trim_start_matches("step_").split('.').next().and_then(|step| step.parse().ok()).expect("a step")
}

/// A run at work on three processes.
struct Life {
    pipe: Pipe,
    child: Child,
}

impl Drop for Life {
    fn drop(&mut self) {
        for process in self.ranks() {
            let _ = Command::new("kill").args(["-KILL", &process.to_string()]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Life {
    fn begin() -> Life {
        let pipe = digits();
        let forever = "engine.trainer.max_epochs=1000000";
        let run = ["run", "ranks.toml", "--quiet", "--devices", "cpu:3", "--out", "life", "--set", forever];
        let life = Life { child: start(&mut pipe.command(&run)), pipe };
        wait_for("a checkpoint", || life.pipe.path("life/checkpoints").read_dir().is_ok_and(|list| list.count() > 0));
        life
    }

    /// The processes in the order of their ranks.
    fn ranks(&self) -> Vec<u32> {
        let listed = Command::new("pgrep").args(["-P", &self.child.id().to_string()]).output().expect("pgrep runs");
        String::from_utf8_lossy(&listed.stdout).lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    fn ended(&mut self) -> Said {
        let mut told = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut told).unwrap();
        }
        let status = self.child.wait().unwrap();
        Said { status: status.code(), stdout: String::new(), stderr: told }
    }
}

#[test]
fn a_signal_ends_all_at_the_same_step_with_a_checkpoint() {
    let mut life = Life::begin();
    // To one that is not the first.
    kill("TERM", life.ranks()[1]);
    let said = life.ended();
    assert!(matches!(said.status, Some(130 | 143)), "{said:?}");
    assert!(said.stderr.contains("interrupted; resume with"), "{}", said.stderr);
    assert_eq!(life.pipe.json("life/run.json")["status"], "interrupted");
    let last = |run: &str| life.pipe.scalars(run).last().expect("records")["step"].as_u64();
    assert_eq!((last("life"), last("life")), (Some(newest(&life.pipe)), last("life/ranks/2")));
}

#[test]
fn a_rank_that_is_killed_ends_all_and_is_named() {
    let mut life = Life::begin();
    kill("KILL", life.ranks()[2]);
    let said = life.ended();
    assert_eq!(said.status, Some(137), "{said:?}");
    assert!(said.stderr.contains("rank 2 was killed by signal 9"), "{}", said.stderr);
    let info = life.pipe.json("life/run.json");
    assert_eq!(info["status"], "failed");
    // Wherever in a step the others were.
    let error = info["error"].as_str().unwrap_or_default();
    assert!(error.contains("another rank is gone"), "{error}");
    // It goes on from its last checkpoint with the processes that there are.
    let epochs = newest(&life.pipe) / 12 + 1;
    train(&life.pipe, "cpu:2", "life", epochs as u32, &[]);
    assert_eq!(life.pipe.json("life/run.json")["status"], "done");
}

#[test]
fn ranks_whose_launcher_is_killed_save_a_checkpoint_and_end() {
    let mut life = Life::begin();
    let ranks = life.ranks();
    life.child.kill().unwrap();
    life.child.wait().unwrap();
    let at_work =
        |rank: &u32| std::fs::read_to_string(format!("/proc/{rank}/cmdline")).is_ok_and(|line| !line.is_empty());
    wait_for("the end of all", || !ranks.iter().any(at_work));
    assert_eq!(life.pipe.json("life/run.json")["status"], "interrupted");
}

#[test]
fn a_rank_that_hangs_ends_all_and_is_named() {
    let mut life = Life::begin();
    kill("STOP", life.ranks()[1]);
    let said = life.ended();
    assert_eq!(said.status, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("rank 1 has not answered for 6 s"), "{}", said.stderr);
}

#[test]
fn an_edit_is_made_by_all_ranks_after_the_same_step_or_by_none() {
    let pipe = digits();
    let edit = |pipe: &Pipe, more: &str| {
        let saved = "[[on]]\nevent = \"engine.trainer:completed\"\nrun = [\"handler.checkpoint\"]\n";
        pipe.write("edited.toml", &format!("extends = \"ranks.toml\"\n{more}{saved}"));
    };
    edit(&pipe, "");
    let forever = "engine.trainer.max_epochs=1000000";
    let run = ["run", "edited.toml", "--quiet", "--watch", "--devices", "cpu:2", "--out", "life", "--set", forever];
    let mut life = Life { child: start(&mut pipe.command(&run)), pipe };
    let pipe = &life.pipe;
    wait_for("a checkpoint", || pipe.path("life/checkpoints").read_dir().is_ok_and(|list| list.count() > 0));
    let made = |what: &str| {
        let records = pipe.records("life");
        let edit = records.iter().find(|record| {
            record["tag"] == "pipeline/edit" && record["value"].as_str().is_some_and(|text| text.contains(what))
        });
        edit.and_then(|record| record["step"].as_u64())
    };
    edit(
        pipe,
        "model.net.layers = [{ type = \"flatten\" }, { type = \"linear\", in_features = 783, out_features = 10 }]\n",
    );
    wait_for("a refusal", || made("refused").is_some());
    // What only one can do, here read a file by way of its own process, none does.
    let newest_of_all = newest_file(pipe, "life");
    std::fs::copy(newest_of_all, pipe.path("new.safetensors")).expect("copied");
    let first = life.ranks()[0];
    edit(pipe, &format!("model.net.weights = \"/proc/self/task/{first}/cwd/new.safetensors\"\n"));
    wait_for("a refusal of one", || made("rank 1 cannot make this edit").is_some());
    let faster = "optimizer.sgd.lr = 0.02\n";
    edit(pipe, faster);
    wait_for("an edit", || made("applied").is_some());
    let step = made("applied").expect("it was");
    kill("TERM", life.ranks()[0]);
    assert!(matches!(life.ended().status, Some(130 | 143)));
    let pipe = &life.pipe;
    let log = pipe.read("life/ranks/1/console.log");
    assert!(log.contains("refused") && log.contains("applied"), "{log}");
    // One process with the same edit after the same step.
    for (more, way, until) in [("", "--out", step), (faster, "--resume", newest(pipe))] {
        edit(pipe, more);
        let until = format!("engine.trainer.max_iterations={until}");
        pipe.ok(&["run", "edited.toml", "--quiet", way, "alone", "--set", &until, "--set", forever]);
    }
    let gap = apart(pipe, "life", "alone");
    assert!(gap < 1e-4, "{gap}");
}

#[test]
fn a_loss_that_is_not_finite_on_one_rank_is_left_out_by_all() {
    let pipe = Pipe::with("ranks.toml", include_str!("ranks_nan.toml"));
    // Normalized by next to nothing, a pixel of the last of 16 images is infinite: of a batch of 4 it is in the second half.
    let mut images = vec![0.0f32; 16 * 16];
    images[15 * 16] = 1.0;
    npy(&pipe, "images.npy", "<f4", "(16, 4, 4)", images.iter().flat_map(|pixel| pixel.to_le_bytes()).collect());
    let labels = (0..16i64).flat_map(|sample| (sample % 2).to_le_bytes()).collect();
    npy(&pipe, "labels.npy", "<i8", "(16,)", labels);
    let said = pipe.run(&["run", "ranks.toml", "--quiet", "--devices", "cpu:2", "--out", "raises"]);
    assert_eq!(said.status, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("a loss is not finite on rank 1"), "{}", said.stderr);
    assert!(pipe.read("raises/ranks/1/console.log").contains("images.npy[15]"));
    let skip = ["--set", "engine.trainer.on_non_finite=skip"];
    train(&pipe, "cpu:2", "two", 2, &skip);
    train(&pipe, "cpu:1", "alone", 2, &skip);
    let gap = apart(&pipe, "two", "alone");
    assert!(gap < 1e-6, "{gap}");
}

/// Writes an array as NumPy does.
fn npy(pipe: &Pipe, name: &str, kind: &str, shape: &str, values: Vec<u8>) {
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.into_bytes());
    file.extend(values);
    std::fs::write(pipe.path(name), file).unwrap();
}

#[test]
fn what_cannot_be_is_said() {
    let pipe = digits();
    for (devices, words) in [
        ("cpu:0", "write how many processes, such as cpu:2"),
        ("gpu", "names no devices; write 0,1 or all or cpu:2"),
        ("cpu:2,cpu:3", "write how many processes, such as cpu:2"),
    ] {
        let said = pipe.run(&["run", "ranks.toml", "--devices", devices]);
        assert!(said.status != Some(0) && said.stderr.contains(words), "{devices}: {}", said.stderr);
    }
    let said = pipe.run(&["run", "ranks.toml", "--set", "pipeline.devices=\"0;1\""]);
    assert!(said.status == Some(2) && said.stderr.contains("write 0,1 or all or cpu:2"), "{}", said.stderr);
    let alone =
        pipe.command(&["run", "ranks.toml", "--quiet"]).env("RANK", "5").env("WORLD_SIZE", "2").output().unwrap();
    let said = String::from_utf8_lossy(&alone.stderr);
    assert!(!alone.status.success() && said.contains("rank 5 is none of 2"), "{said}");
}
