//! `pipe bench` and the profiler's trace.

use serde_json::Value;

use crate::program::Pipe;

/// A linear model of 784 × 10 and 10 numbers, whose work is known.
const LINEAR: &str = r#"
[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]
"#;

fn pipe(more: &str) -> Pipe {
    let text = format!(
        r#"
[pipeline]
name = "small"
device = "cpu"

[dataset.train]
type = "mnist"
root = "builtin:digits"

[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = 32
workers = 1
{LINEAR}
[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.01

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_iterations = 8

[checks]
allow = ["unsaved-training", "unshuffled-training"]
{more}"#
    );
    Pipe::with("small.toml", &text)
}

#[test]
fn an_iteration_is_measured() {
    let pipe = pipe("");
    let said = pipe.ok(&["bench", "small.toml", "--iterations", "4", "--format", "json"]);
    let report: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!((report["parameters"].as_u64(), report["trainable"].as_u64()), (Some(7850), Some(7850)));
    assert_eq!((report["batch_size"].as_u64(), report["device"].as_str()), (Some(32), Some("cpu")));
    // Forward, and the gradient of the weight: that of the images is not needed.
    assert_eq!(report["flops"].as_u64().map(|flops| flops / (2 * 32 * 784 * 10)), Some(2), "{report}");
    for part in ["data wait", "forward", "backward", "optimizer step"] {
        assert!(report["parts_seconds"][part].as_f64().is_some_and(|seconds| seconds > 0.0), "{part}: {report}");
    }
    for rate in ["images_per_second", "loader_images_per_second", "peak_flops_per_second", "share_of_peak"] {
        assert!(report[rate].as_f64().is_some_and(|rate| rate > 0.0), "{rate}: {report}");
    }
    let said = pipe.ok(&["bench", "small.toml", "--iterations", "2"]);
    for row in ["parameters", "iteration", "loader alone", "work", "memory at the peak"] {
        assert!(said.stdout.contains(row), "{row}: {}", said.stdout);
    }
    assert_eq!(pipe.names(".").iter().filter(|name| name.as_str() == "runs").count(), 0, "it leaves nothing behind");
}

#[test]
fn a_trace_holds_the_parts_of_its_iterations() {
    let profiler = "[handler.profiler]\ntype = \"profiler\"\ntrace = { first = 3, iterations = 2 }\n";
    let pipe = pipe(profiler);
    pipe.ok(&["run", "small.toml", "--out", "run"]);
    let trace = pipe.json("run/trace.json");
    let events = trace["traceEvents"].as_array().expect("events");
    let times = |name: &str| events.iter().filter(|event| event["name"] == name && event["ph"] == "X").count();
    assert_eq!([times("forward"), times("backward"), times("optimizer step")], [2, 2, 2]);
    assert!(times("aten::linear") == 2 && times("data wait") >= 2, "operators stand within");
}
