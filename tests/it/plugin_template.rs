//! Plugins from the template, as their authors get them: written, built, tested, checked, loaded, run, swapped.
//!
//! Compiles crates, which find their dependencies in this workspace's target folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use pipe_run::plugins;

const KINDS: [&str; 8] = ["transform", "dataset", "model", "metric", "handler", "sink", "scheduler", "optimizer"];

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

/// Cargo in a folder, without this workspace's own settings and without a network.
fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder).env_remove("CARGO_TARGET_DIR").env("CARGO_NET_OFFLINE", "true");
    command
}

/// `cargo test` or `build` in the crate, as `pipe plugin new` says it.
fn make(krate: &Path, what: &str) -> String {
    let release: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    run(cargo(krate).arg(what).args(release))
}

/// A crate from the template, and what was said.
fn new(folder: &Path, kind: &str) -> (String, PathBuf, String) {
    let name = format!("it_template_{kind}");
    let krate = folder.join(&name);
    let said = run(pipe(folder).args(["plugin", "new", &name, "--kind", kind]));
    (name, krate, said)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The library that the pipeline of the crate loads.
fn library(krate: &Path, name: &str) -> PathBuf {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    krate.join("target").join(profile).join(format!("lib{name}.so"))
}

#[test]
fn a_plugin_is_built_tested_checked_run_and_swapped() {
    let folder = folder();
    let (name, krate, _) = new(folder.path(), "transform");
    assert!(make(&krate, "test").contains("test result: ok. 1 passed"));
    make(&krate, "build");
    let library = library(&krate, &name);
    let said = run(pipe(&krate).args(["plugin", "check"]).arg(&library));
    assert!(said.contains(&format!("ok    transform.{name}: built from it as ")), "{said}");
    let said = run(pipe(&krate).args(["components", &format!("transform.{name}"), "--plugin"]).arg(&library));
    assert!(said.contains(&format!("plugin {name} 0.1.0, ")), "{said}");
    run(pipe(&krate).args(["run", "example.toml", "--quiet", "--out", "run"]));
    let said = run(pipe(&krate).args(["plugin", "list", "example.toml"]));
    assert!(
        said.contains(&format!("  transform.{name}\n")) && said.contains("pipe-copy-paste 0.1.0  compiled in"),
        "{said}"
    );
    swap(&krate, &name, &library);
}

/// In one crate, as each build links all of pipe.
#[test]
fn every_kind_is_built_tested_checked_and_run() {
    let folder = folder();
    let (others, mut modules, mut exported) = (&KINDS[1..], String::new(), Vec::new());
    let (whole, krate, _) = new(folder.path(), "dataset");
    for kind in others {
        let (name, of_kind) = match *kind {
            "dataset" => (whole.clone(), krate.clone()),
            kind => {
                let (name, krate, _) = new(folder.path(), kind);
                (name, krate)
            }
        };
        let text = std::fs::read_to_string(of_kind.join("src/lib.rs")).expect("a source");
        let (before, rest) = text.split_once("pipe_plugin::export! { ").expect("what it exports");
        let (component, after) = rest.split_once(" }").expect("a component");
        std::fs::write(krate.join(format!("src/{kind}.rs")), format!("{before}{after}")).expect("written");
        modules += &format!("mod {kind};\n");
        exported.push(format!("{kind}::{component}"));
        let example = std::fs::read_to_string(of_kind.join("example.toml")).expect("an example");
        let example = example.replace(&format!("lib{name}.so"), &format!("lib{whole}.so"));
        std::fs::write(krate.join(format!("{kind}.toml")), example).expect("written");
    }
    std::fs::write(krate.join("src/lib.rs"), format!("{modules}pipe_plugin::export! {{ {} }}\n", exported.join(", ")))
        .expect("written");
    let passed = format!("test result: ok. {} passed", others.len());
    let said = make(&krate, "test");
    assert!(said.contains(&passed), "{said}");
    make(&krate, "build");
    let said = run(pipe(&krate).args(["plugin", "check"]).arg(library(&krate, &whole)));
    for kind in others {
        assert!(said.contains(&format!("ok    {kind}.it_template_{kind}: built from it as ")), "{said}");
        run(pipe(&krate).args(["run", &format!("{kind}.toml"), "--quiet", "--out", kind]));
    }
}

/// Changed, built again, and taken up by this program.
fn swap(krate: &Path, name: &str, library: &Path) {
    let descriptor = || {
        let loaded = plugins::load(library).expect("loaded");
        *loaded.components.iter().find(|d| d.name == name).expect("there")
    };
    let before = descriptor();
    let source = krate.join("src/lib.rs");
    let (old, new) = ("Makes images brighter or darker at random.", "Is another one.");
    let text = std::fs::read_to_string(&source).expect("a source").replace(old, new);
    std::fs::write(&source, text).expect("written");
    make(krate, "build");
    let after = descriptor();
    assert!(!std::ptr::eq(before, after));
    assert_eq!([before.summary(), after.summary()], [old, new]);
}

#[test]
fn what_is_there_is_not_overwritten_and_names_are_checked() {
    let folder = folder();
    let (name, krate, said) = new(folder.path(), "sink");
    let library = library(&krate, &name).strip_prefix(&krate).expect("below it").display().to_string();
    assert!(said.contains(&format!("# makes {library}\n")), "{said}");
    let example = std::fs::read_to_string(krate.join("example.toml")).expect("an example");
    assert!(example.contains(&format!("paths = [\"{library}\"]")), "{example}");
    let refused = |arguments: &[&str]| {
        let output = pipe(folder.path()).args(["plugin", "new"]).args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&[&name, "--kind", "sink"]).contains("has a crate already"));
    assert!(refused(&["My-Plugin", "--kind", "sink"]).contains("cannot be the name of a plugin"));
    assert!(refused(&["other", "--kind", "sink", "--pipe", "nowhere"]).contains("nowhere is no checkout of pipe"));
}

/// Dependencies of others with their versions and features, as cargo would build them.
fn features(folder: &Path, package: &str) -> BTreeSet<String> {
    let said = run(cargo(folder)
        .args(["tree", "-q", "-e", "normal,build", "--prefix", "none", "-p", package])
        .args(["-f", "{p} [{f}]"]));
    let lines = said.lines().map(|line| line.trim_end_matches(" (*)").to_owned());
    // Crates of one's own show their folder.
    lines.filter(|line| !line.is_empty() && !line.contains(" (/")).collect()
}

/// Otherwise its first build takes minutes: what differs is built again, and everything that stands on it.
#[test]
fn a_plugin_builds_its_dependencies_as_pipe_does() {
    let folder = folder();
    let (name, krate, _) = new(folder.path(), "transform");
    let plugin = features(&krate, &name);
    let pipe = features(Path::new(env!("CARGO_MANIFEST_DIR")), "pipe");
    assert!(plugin.iter().any(|line| line.starts_with("tch v")), "{plugin:?}");
    let other: Vec<&String> = plugin.difference(&pipe).collect();
    assert!(other.is_empty(), "give pipe-plugin the features that pipe asks for: {other:?}");
}

/// Crates share the folder of what cargo builds, and cargo tells crates of one name by their times alone.
#[test]
fn plugins_of_one_name_are_not_taken_for_one_another() {
    let folder = folder();
    let name = "it_template_twice";
    let crates = ["one", "two"].map(|place| {
        run(pipe(folder.path()).args(["plugin", "new", name, "--kind", "sink", "--dir", place]));
        let krate = folder.path().join(place);
        let source = krate.join("src/lib.rs");
        let text = std::fs::read_to_string(&source).expect("a source");
        let mark = format!("Mark of {}.", krate.display());
        std::fs::write(&source, text.replacen("/// ", &format!("/// {mark}\n///\n/// "), 1)).expect("written");
        (krate, mark)
    });
    // The second is older than what was built of the first.
    for (krate, mark) in crates {
        make(&krate, "build");
        let loaded = plugins::load(&library(&krate, name)).expect("loaded");
        assert_eq!(loaded.components[0].summary(), mark);
    }
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
