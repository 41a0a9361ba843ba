//! A library that is built anew while the program runs.

use std::path::Path;

use pipe_data::{random::Purpose, random::stream};
use pipe_core::Kind;
use pipe_run::plugins;
use pipe_plugin::testing::sample;
use serde_json::json;

use super::{Bench, component, library, turn};

/// Another build of the test plugin: the mark in its documentation changed in the file itself.
pub(crate) fn rebuilt(path: &Path, mark: &str) {
    let mut bytes = std::fs::read(library("pipe_test_plugin")).unwrap();
    let old = b"version-one";
    let places: Vec<usize> = (0..bytes.len() - old.len()).filter(|&at| bytes[at..].starts_with(old)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|&at| bytes[at..at + old.len()].copy_from_slice(mark.as_bytes()));
    // As cargo does: a new file in the place of the old one.
    let aside = path.with_extension("new");
    std::fs::write(&aside, bytes).unwrap();
    std::fs::rename(&aside, path).unwrap();
}

#[test]
fn a_rebuilt_library_is_taken_up_and_old_nodes_live_on() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libswapped.so");
    rebuilt(&path, "version-two");
    let loaded = plugins::load(&path).unwrap();
    assert_eq!(loaded.library.as_deref(), Some(path.as_path()));
    assert!(plugins::files().contains(&path));
    let before = component(Kind::Transform, "test_brighten");
    assert!(before.documentation().contains("version-two"));
    let old = Bench::new().transform("test_brighten", json!({ "by": 1 })).unwrap();

    assert!(plugins::load(&path).is_ok() && std::ptr::eq(before, component(Kind::Transform, "test_brighten")));
    assert!(plugins::reload_changed().iter().all(|(file, _)| *file != path));
    // Touched, but the same bytes.
    rebuilt(&path, "version-two");
    assert!(plugins::reload_changed().iter().all(|(file, _)| *file != path));

    rebuilt(&path, "version-xxx");
    let changed = plugins::reload_changed();
    assert!(changed.iter().any(|(file, result)| *file == path && result.is_ok()), "{changed:?}");
    let after = component(Kind::Transform, "test_brighten");
    assert!(!std::ptr::eq(before, after) && after.documentation().contains("version-xxx"));
    assert!(before.documentation().contains("version-two"), "plans made before still point to it");
    let mut rng = stream(1, Purpose::Sample, 0, 0);
    let new = Bench::new().transform("test_brighten", json!({ "by": 1 })).unwrap();
    assert_eq!(old.apply(sample(3, 3, &[]), &mut rng).unwrap(), new.apply(sample(3, 3, &[]), &mut rng).unwrap());

    // A build that went wrong changes nothing, and is tried again.
    std::fs::write(&path, "half a library").unwrap();
    for _ in 0..2 {
        let changed = plugins::reload_changed();
        let error = changed.iter().find(|(file, _)| *file == path).expect("changed").1.as_ref().unwrap_err();
        assert!(format!("{error:#}").contains("is no plugin"), "{error:#}");
        assert!(std::ptr::eq(after, component(Kind::Transform, "test_brighten")));
    }
    rebuilt(&path, "version-end");
    assert!(plugins::reload_changed().iter().any(|(file, result)| *file == path && result.is_ok()));
    assert!(component(Kind::Transform, "test_brighten").documentation().contains("version-end"));
}

#[test]
fn names_that_are_taken_are_refused() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libother.so");
    // The test plugin under another name: its components are the other one's.
    let mut bytes = std::fs::read(library("pipe_test_plugin")).unwrap();
    let (old, new) = (b"pipe-test-plugin", b"some-test-plugin");
    for at in 0..bytes.len() - old.len() {
        if bytes[at..].starts_with(old) {
            bytes[at..at + old.len()].copy_from_slice(new);
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let error = format!("{:#}", plugins::load(&path).unwrap_err());
    let expected = "plugin some-test-plugin 0.1.0: transform.test_brighten is the plugin pipe-test-plugin's already";
    assert_eq!(error, expected);
    assert!(!plugins::files().contains(&path));
}
