//! Plugins from the template, as their authors get them: written, built, tested, checked, loaded, run, swapped.
//!
//! Compiles crates, into this workspace's own target folder, so that their dependencies are there already.

use std::path::{Path, PathBuf};
use std::process::Command;

use pipe_run::plugins;

const KINDS: [&str; 8] = ["transform", "dataset", "model", "metric", "handler", "sink", "scheduler", "optimizer"];

/// The target folder, and that of the profile in it.
fn target() -> (PathBuf, PathBuf) {
    let program = std::env::current_exe().expect("this program");
    let profile = program.parent().and_then(Path::parent).expect("target/PROFILE/deps").to_owned();
    (profile.parent().expect("target").to_owned(), profile)
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}\n{text}");
    text
}

fn pipe(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
    command.current_dir(folder);
    command
}

/// `cargo test` or `build` in the crate, with the dependencies of this workspace.
fn cargo(krate: &Path, what: &str) -> String {
    let (target, profile) = target();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(krate).env("CARGO_TARGET_DIR", target).args([what, "--offline"]);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    run(&mut command)
}

/// A crate from the template, below the checkout so that cargo's settings are the same.
fn new(folder: &Path, kind: &str) -> (String, PathBuf) {
    let name = format!("it_template_{kind}");
    let krate = folder.join(&name);
    run(pipe(folder).args(["plugin", "new", &name, "--kind", kind]));
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    std::fs::copy(lock, krate.join("Cargo.lock")).expect("copied");
    (name, krate)
}

fn folder() -> tempfile::TempDir {
    std::fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

/// The built library, where the crate's own target folder would have it.
fn library(krate: &Path, name: &str) -> PathBuf {
    let file = format!("lib{name}.so");
    let own = krate.join("target/debug");
    std::fs::create_dir_all(&own).expect("a folder");
    std::fs::copy(target().1.join(&file), own.join(&file)).expect("the library was built");
    own.join(file)
}

#[test]
fn every_kind_is_built_tested_checked_and_run() {
    let folder = folder();
    for kind in KINDS {
        let (name, krate) = new(folder.path(), kind);
        assert!(cargo(&krate, "test").contains("test result: ok. 1 passed"), "{kind}");
        cargo(&krate, "build");
        let library = library(&krate, &name);
        let said = run(pipe(&krate).args(["plugin", "check"]).arg(&library));
        assert!(said.contains(&format!("ok    {kind}.{name}: built from it as ")), "{said}");
        let said = run(pipe(&krate).args(["components", &format!("{kind}.{name}"), "--plugin"]).arg(&library));
        assert!(said.contains(&format!("plugin {name} 0.1.0, ")), "{said}");
        run(pipe(&krate).args(["run", "example.toml", "--quiet", "--out", "run"]));
        let said = run(pipe(&krate).args(["plugin", "list", "example.toml"]));
        assert!(
            said.contains(&format!("  {kind}.{name}\n")) && said.contains("pipe-copy-paste 0.1.0  compiled in"),
            "{said}"
        );
        swap(&krate, &name, kind, &library);
    }
}

/// For a transform: changed, built again, and taken up by this program.
fn swap(krate: &Path, name: &str, kind: &str, library: &Path) {
    if kind != "transform" {
        return;
    }
    let descriptor = || {
        let loaded = plugins::load(library).expect("loaded");
        *loaded.components.iter().find(|d| d.name == name).expect("there")
    };
    let before = descriptor();
    let source = krate.join("src/lib.rs");
    let text =
        std::fs::read_to_string(&source).expect("a source").replace("Multiplies every pixel.", "Is another one.");
    std::fs::write(&source, text).expect("written");
    cargo(krate, "build");
    self::library(krate, name);
    let after = descriptor();
    assert!(!std::ptr::eq(before, after));
    assert_eq!([before.summary(), after.summary()], ["Multiplies every pixel.", "Is another one."]);
}

#[test]
fn what_is_there_is_not_overwritten_and_names_are_checked() {
    let folder = folder();
    let (name, _) = new(folder.path(), "sink");
    let refused = |arguments: &[&str]| {
        let output = pipe(folder.path()).args(["plugin", "new"]).args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&[&name, "--kind", "sink"]).contains("has a crate already"));
    assert!(refused(&["My-Plugin", "--kind", "sink"]).contains("cannot be the name of a plugin"));
    assert!(refused(&["other", "--kind", "sink", "--pipe", "nowhere"]).contains("nowhere is no checkout of pipe"));
}

#[test]
fn a_library_that_is_no_plugin_is_told_so() {
    let folder = folder();
    std::fs::write(folder.path().join("libodd.so"), "no library").expect("written");
    let output = pipe(folder.path()).args(["plugin", "check", "libodd.so"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("WRONG ") && said.contains("is no plugin"), "{said}");
}
