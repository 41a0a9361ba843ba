//! Secrets are in nothing that the program prints or writes.

use std::path::Path;

use super::program::{Pipe, Said};

const PIPELINE: &str = r#"
[pipeline]
name = "secrets"

[vars]
inner = "s3cr3t-of-vars"
token = "${inner}"

[dataset.train]
type = "mnist"
root = "builtin:digits"
limit = 32

[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = 32
workers = 0

[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.05

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 1

[handler.checkpoint]
type = "checkpoint"

[[on]]
event = "engine.trainer:completed"
run = ["handler.checkpoint"]

[sink.child]
type = "process"
command = ["sh", "-c", "cat > /dev/null; test -n \"$PLAIN\" || exit 5"]
env = { PLAIN = "s3cr3t-in-the-file", TOKEN = "${token}" }
timeout = "60s"
"#;

fn printed(said: &Said) -> String {
    format!("{}{}", said.stdout, said.stderr)
}

/// The text of every file in a folder, one after another.
fn everything(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            everything(&entry.path(), text);
        } else {
            *text += &String::from_utf8_lossy(&std::fs::read(entry.path()).expect("a file"));
        }
    }
}

#[test]
fn a_secret_is_neither_shown_nor_stored() {
    let pipe = Pipe::with("secrets.toml", PIPELINE);
    let set = "sink.child.env.EXTRA='s3cr3t-on-the-command-line'";
    let text = printed(&pipe.ok(&["show", "secrets.toml", "--set", set]));
    assert!(text.matches("<secret>").count() == 5, "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");

    let variable = "vars.inner='s3cr3t-on-the-command-line'";
    let run = ["run", "secrets.toml", "--device", "cpu", "--out", "run", "--set", set, "--set", variable];
    let mut text = printed(&pipe.ok(&run));
    everything(&pipe.path("run"), &mut text);
    assert!(text.contains("sink.child.env.EXTRA=<secret>") && text.contains("vars.inner=<secret>"), "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");

    // A mistake elsewhere must not uncover it.
    let broken = PIPELINE.replace("lr = 0.05", "lr = -1");
    pipe.write("secrets.toml", &broken.replace("max_epochs = 1", "max_epoch = 1"));
    let shown = pipe.run(&["show", "secrets.toml"]);
    let text = printed(&shown);
    assert_eq!(shown.status, Some(2), "{text}");
    assert!(text.contains("<secret>") && !text.contains("s3cr3t"), "{text}");
    let checked = printed(&pipe.run(&["check", "secrets.toml", "--format", "json"]));
    assert!(!checked.contains("s3cr3t"), "{checked}");
}
