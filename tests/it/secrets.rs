//! Secrets are in nothing that the program prints or writes.

use std::path::Path;

use super::program::{Pipe, Said};

const PIPELINE: &str = r#"
[vars]
inner = "s3cr3t-of-vars"
token = "${inner}"

[dataset.train]
limit = 32

[optimizer.sgd]
lr = 0.06

[engine.trainer]
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
    let pipe = Pipe::digits("secrets.toml", PIPELINE);
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

    let exported = pipe.run(&["runs", "export", "run", "--out", "run.html"]);
    if exported.status == Some(0) {
        let html = pipe.read("run.html");
        assert!(html.contains("env.EXTRA=\\u003csecret>") && !html.contains("s3cr3t"), "{}", printed(&exported));
    } else {
        assert!(exported.stderr.contains("built without its page"), "{}", exported.stderr);
    }

    // The run's own pipeline lacks them, which is told before anything begins.
    let again = pipe.run(&["run", "run", "--resume", "run", "--set", "sink.child.env.EXTRA=s3cr3t"]);
    assert_eq!(again.status, Some(2), "{}", again.stderr);
    assert_eq!(again.stderr.matches("this was a secret, and a run keeps none").count(), 2, "{}", again.stderr);
    let sets = ["sink.child.env.EXTRA=s3cr3t", "sink.child.env.PLAIN=s3cr3t", "sink.child.env.TOKEN=s3cr3t"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    pipe.ok(&[&["run", "run", "--resume", "run"][..], &sets].concat());

    // A mistake elsewhere must not uncover it.
    let whole = pipe.read("secrets.toml");
    pipe.write("secrets.toml", &whole.replace("lr = 0.06", "lr = -1").replace("max_epochs = 1", "max_epoch = 1"));
    let shown = pipe.run(&["show", "secrets.toml"]);
    let text = printed(&shown);
    assert_eq!(shown.status, Some(2), "{text}");
    assert!(text.contains("<secret>") && !text.contains("s3cr3t"), "{text}");
    let checked = printed(&pipe.run(&["check", "secrets.toml", "--format", "json"]));
    assert!(!checked.contains("s3cr3t"), "{checked}");
}

/// A variable with a telling name is a secret wherever it is used, and so is a secret of the wrong type.
#[test]
fn a_secret_is_not_shown_where_it_does_not_belong() {
    let pipe = Pipe::digits("secrets.toml", PIPELINE);
    let command = "sink.child.command=['sh', '-c', 'cat > /dev/null', '${hub_token}']";
    let sets = ["--set", command, "--set", "vars.hub_token=s3cr3t-of-the-hub"];
    let mut text =
        printed(&pipe.ok(&[&["run", "secrets.toml", "--device", "cpu", "--out", "run"][..], &sets].concat()));
    everything(&pipe.path("run"), &mut text);
    assert!(text.contains("vars.hub_token=<secret>"), "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");

    for (set, wrong) in [
        ("sink.child.env.TOKEN=8675309", "expected a string, found something else"),
        ("sink.child.env.TOKEN=['s3cr3t']", "expected a string, found something else"),
        ("engine.trainer.max_epochs='${token}'", "found the string \"<secret>\""),
        ("optimizer.sgd.type='${token}'", "there is no optimizer of type `<secret>`"),
    ] {
        let said = pipe.run(&["check", "secrets.toml", "--set", set]);
        let text = printed(&said);
        assert_eq!(said.status, Some(2), "{text}");
        assert!(text.contains(wrong), "{text}");
        assert!(!text.contains("s3cr3t") && !text.contains("8675309"), "{text}");
    }
}
