//! A library that is built anew while the program runs.

use std::path::Path;
use std::rc::Rc;

use pipe_data::random::{Purpose, stream};
use pipe_plugin::testing::sample;
use pipe_run::plugins::{self, Loaded};
use pipe_vocab::Descriptor;
use serde_json::json;

use super::{Bench, catalog, library, turn};

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
    let first = plugins::load(&path).unwrap();
    assert_eq!(first.info.library.as_deref(), Some(path.as_path()));
    let before = brighten(&first);
    assert!(before.documentation().contains("version-two"));
    let old = bench(&first).transform("test_brighten", json!({ "by": 1 })).unwrap();

    assert!(std::ptr::eq(before, brighten(&plugins::load(&path).unwrap())), "a file that has not changed");
    rebuilt(&path, "version-two");
    assert!(std::ptr::eq(before, brighten(&plugins::load(&path).unwrap())), "touched, but the same bytes");

    rebuilt(&path, "version-xxx");
    let second = plugins::load(&path).unwrap();
    let after = brighten(&second);
    assert!(!std::ptr::eq(before, after) && after.documentation().contains("version-xxx"));
    assert!(before.documentation().contains("version-two"), "plans made before still point to it");
    let mut rng = stream(1, Purpose::Sample, 0, 0);
    let new = bench(&second).transform("test_brighten", json!({ "by": 1 })).unwrap();
    assert_eq!(old.apply(sample(3, 3, &[]), &mut rng).unwrap(), new.apply(sample(3, 3, &[]), &mut rng).unwrap());

    // A build that went wrong is tried again each time.
    std::fs::write(&path, "half a library").unwrap();
    for _ in 0..2 {
        let error = plugins::load(&path).err().expect("no library");
        assert!(format!("{error:#}").contains("is no plugin"), "{error:#}");
    }
    rebuilt(&path, "version-end");
    assert!(brighten(&plugins::load(&path).unwrap()).documentation().contains("version-end"));
}

fn brighten(loaded: &Loaded) -> &'static Descriptor {
    loaded.components.iter().find(|d| d.name == "test_brighten").expect("the component")
}

fn bench(loaded: &Loaded) -> Bench {
    let mut catalog = plugins::catalog().clone();
    loaded.add_to(&mut catalog).unwrap();
    Bench::with(Rc::new(catalog))
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
    let error = format!("{:#}", plugins::load(&path).unwrap().add_to(&mut (*catalog()).clone()).unwrap_err());
    let expected =
        "plugin some-test-plugin 0.1.0: transform.test_brighten is already defined by the plugin pipe-test-plugin";
    assert_eq!(error, expected);
}
