//! The watcher: every way in which files are edited.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipe_run::reload::inbox::{Inbox, What};
use pipe_run::{load::PipelineSource, load::Snapshot};
use pipe_run::{reload::watch, reload::watch::WatchOptions};

/// Waits for the next snapshot that the watcher puts into the inbox.
fn wait(inbox: &Inbox) -> Snapshot {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if let Some(What::Files(snapshot)) = inbox.take().pop().map(|arrival| arrival.what) {
            return snapshot;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the watcher saw nothing")
}

fn text_of(snapshot: &Snapshot, path: &Path) -> String {
    snapshot.files[path].clone().unwrap()
}

/// Every way in which editors save, and a parent that is edited, replaced and named anew.
fn watched(options: WatchOptions) {
    let folder = tempfile::tempdir().unwrap();
    let [file, parent, other] = ["child.toml", "parent.toml", "other.toml"].map(|name| folder.path().join(name));
    std::fs::write(&parent, "[vars]\na = 1\n").unwrap();
    std::fs::write(&other, "[vars]\na = 2\n").unwrap();
    std::fs::write(&file, "extends = \"parent.toml\"\n").unwrap();
    let source = PipelineSource {
        file: file.clone(),
        profile: None,
        sets: Vec::new(),
        base: None,
        accept: Vec::new(),
        texts: None,
    };
    let inbox = Arc::new(Inbox::default());
    let trigger = watch::start(source.clone(), source.snapshot(), options, inbox.clone()).unwrap();
    for n in 0..6 {
        let text = format!("extends = \"parent.toml\"\n# {n}\n");
        match n % 3 {
            // In place; through a file of another name; away and back.
            0 => std::fs::write(&file, &text).unwrap(),
            1 => {
                let aside = folder.path().join("aside");
                std::fs::write(&aside, &text).unwrap();
                std::fs::rename(&aside, &file).unwrap();
            }
            _ => {
                std::fs::rename(&file, folder.path().join("child.toml~")).unwrap();
                std::fs::write(&file, &text).unwrap();
            }
        }
        assert_eq!(text_of(&wait(&inbox), &file), text);
    }
    std::fs::write(&parent, "[vars]\na = 3\n").unwrap();
    assert_eq!(text_of(&wait(&inbox), &parent), "[vars]\na = 3\n");
    std::fs::write(&file, "extends = \"other.toml\"\n").unwrap();
    assert_eq!(text_of(&wait(&inbox), &other), "[vars]\na = 2\n");
    std::fs::write(&other, "[vars]\na = 4\n").unwrap();
    assert_eq!(text_of(&wait(&inbox), &other), "[vars]\na = 4\n");
    // The same content is no edit, asked for or not; a reload that is asked for is read all the same.
    std::fs::write(&other, "[vars]\na = 4\n").unwrap();
    trigger.reload();
    let snapshot = wait(&inbox);
    assert_eq!(text_of(&snapshot, &other), "[vars]\na = 4\n");
    assert!(inbox.take().is_empty());
    // A file that goes is told of once it does not come back.
    std::fs::remove_file(&file).unwrap();
    assert!(wait(&inbox).files[&file].is_err());
}

#[test]
fn edits_are_seen_however_they_are_saved() {
    watched(WatchOptions::default());
}

#[test]
fn edits_are_seen_by_polling() {
    watched(WatchOptions { poll: Some(Duration::from_millis(20)) });
}
