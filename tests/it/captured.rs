//! What a run keeps of where it comes from, with nothing in its file that asks for it.

use std::process::Command;

use super::program::{Pipe, Said};

fn git(pipe: &Pipe, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(pipe.folder()).args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments);
    let done = command.output().expect("git");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn changes_sources_and_surroundings_are_kept_without_secrets() {
    let pipe = Pipe::digits(
        "life.toml",
        "engine.trainer.max_iterations = 2\n[handler.checkpoint]\ntype = \"checkpoint\"\n[[on]]\nevent = \"engine.trainer:completed\"\nrun = [\"handler.checkpoint\"]\n",
    );
    pipe.write("augment.py", "degrees = 10\n");
    git(&pipe, &["init", "--quiet"]);
    git(&pipe, &["add", "augment.py", "digits.toml"]);
    git(&pipe, &["commit", "--quiet", "-m", "first"]);
    pipe.write("augment.py", "degrees = 20\napi_key = \"abcdef-0123\"\n# hush-hush-42\n");
    let run = |more: &[&str]| {
        let mut command = pipe.command(&[&["run", "life.toml", "--quiet"], more].concat());
        let said = Said::of(command.env("MY_TOKEN", "hush-hush-42").env("MY_AFFAIR", "mine"));
        assert_eq!(said.status, Some(0), "{}", said.stderr);
    };
    run(&["--out", "run"]);
    assert_eq!(pipe.names("run/captured"), ["1"]);
    assert_eq!(pipe.names("run/captured/1"), ["changes.patch", "environment.json", "untracked"]);
    // What the run itself left is no source.
    assert_eq!(pipe.names("run/captured/1/untracked"), ["life.toml"]);
    assert_eq!(pipe.read("run/captured/1/untracked/life.toml"), pipe.read("life.toml"));
    let patch = pipe.read("run/captured/1/changes.patch");
    assert!(patch.contains("-degrees = 10\n+degrees = 20\n+api_key = \"<secret>\"\n+# <secret>\n"), "{patch}");
    let environment = pipe.read("run/captured/1/environment.json");
    assert!(!environment.contains("hush") && !environment.contains("mine"), "{environment}");
    let environment = pipe.json("run/captured/1/environment.json");
    assert_eq!(environment["variables"]["OMP_NUM_THREADS"], "2");
    let libraries = environment["libraries"].as_array().expect("a list");
    let named =
        |name: &str| libraries.iter().find(|library| library["path"].as_str().is_some_and(|path| path.contains(name)));
    for name in ["libtorch_cpu", "/pipe"] {
        assert!(named(name).is_some_and(|library| library["build_id"].is_string()), "{libraries:?}");
    }
    // The next life of the run has its own.
    git(&pipe, &["checkout", "--quiet", "augment.py"]);
    run(&["--resume", "run", "--set", "engine.trainer.max_iterations=3"]);
    assert_eq!(pipe.names("run/captured"), ["1", "2"]);
    assert_eq!(pipe.names("run/captured/2"), ["environment.json", "untracked"]);
}
