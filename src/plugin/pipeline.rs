//! The pipeline that comes with a new plugin: a small classifier on the built-in digits, with the plugin in it.

use super::kind::PluginKind;

const DATASET: &str = r#"[dataset.train]
type = "mnist"
root = "builtin:digits"
limit = 1000
"#;

const LOADER: &str = r#"[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = 50
shuffle = true
"#;

const TEST_LOADER: &str = r#"[loader.test]
type = "batch"
dataset = "dataset.train"
batch_size = 50
"#;

const MODEL: &str = r#"[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]
"#;

const OPTIMIZER: &str = r#"[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.1
"#;

const TRAINER: &str = r#"[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 3
"#;

const METRIC: &str = r#"[metric.quality]
type = "accuracy"
"#;

const EVALUATOR: &str = r#"[engine.evaluator]
type = "evaluate"
model = "model.net"
loader = "loader.test"
metrics = ["metric.quality"]

[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.evaluator"]
"#;

/// The pipeline's text.
pub(super) fn example(name: &str, kind: PluginKind, library: &str) -> String {
    let head = format!(
        "# Shows the plugin at work: pipe run example.toml\n\n[pipeline]\nname = \"{name}\"\nseed = 1\n\n[plugins]\npaths = \
         [\"{library}\"]\n"
    );
    let mut parts = [DATASET, LOADER, TEST_LOADER, MODEL, OPTIMIZER, TRAINER, METRIC, EVALUATOR].map(str::to_owned);
    let mut more = Vec::new();
    let typed = |table: &str, rest: &str| format!("[{table}]\ntype = \"{name}\"\n{rest}");
    match kind {
        PluginKind::Dataset => parts[0] = typed("dataset.train", ""),
        PluginKind::Model => parts[3] = typed("model.net", "inputs = 784\nnum_classes = 10\n"),
        PluginKind::Optimizer => parts[4] = typed("optimizer.sgd", "model = \"model.net\"\n"),
        PluginKind::Metric => parts[6] = typed("metric.quality", ""),
        PluginKind::Transform => {
            parts[1].push_str("transform = \"transform.mine\"\n");
            more.push(typed("transform.mine", "p = 0.8\nstrength = 0.3\n"));
        }
        PluginKind::Handler => {
            more.push(typed("handler.mine", ""));
            more.push(on("handler.mine"));
        }
        PluginKind::Scheduler => {
            more.push(typed("scheduler.mine", "optimizer = \"optimizer.sgd\"\n"));
            more.push(on("scheduler.mine"));
        }
        PluginKind::Sink => more.push(typed("sink.mine", "file = \"numbers.csv\"\n")),
    }
    let all: Vec<String> = [head].into_iter().chain(more).chain(parts).collect();
    all.join("\n")
}

fn on(target: &str) -> String {
    format!("[[on]]\nevent = \"engine.trainer:iteration_completed\"\nrun = [\"{target}\"]\n")
}
