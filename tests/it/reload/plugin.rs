//! A plugin that is built anew while a run watches it.

use super::session::{PIPELINE, Session};
use crate::plugins::swap::rebuilt;

/// The session's pipeline, with a transform of the test plugin.
fn pipeline() -> String {
    let (before, after) = PIPELINE.split_once("type = \"compose\"").expect("a transform");
    let (_, after) = after.split_once('\n').and_then(|(_, steps)| steps.split_once('\n')).expect("its steps");
    format!("[plugins]\npaths = [\"libmine.so\"]\n{before}type = \"test_brighten\"\nby = 1\n{after}")
}

#[test]
fn a_plugin_that_is_built_anew_is_taken_up_and_a_broken_one_is_not() {
    let mut session = Session::of(pipeline(), |folder| rebuilt(&folder.join("libmine.so"), "version-two"));
    let library = session.path("libmine.so");
    let taken_up = |session: &mut Session, mark: &str| {
        rebuilt(&library, mark);
        let line = session.next_line();
        assert_eq!(line["outcome"], "applied", "{line}");
        let changes = line["changes"].to_string();
        assert!(changes.contains("transform.augment") && changes.contains("was rebuilt"), "{changes}");
        assert_eq!(session.next_line()["outcome"], "completed", "data change at the end of the epoch");
    };
    taken_up(&mut session, "version-xxx");
    let aside = library.with_extension("new");
    std::fs::write(&aside, "half a library").expect("written");
    std::fs::rename(&aside, &library).expect("renamed");
    let line = session.next_line();
    assert_eq!(line["outcome"], "invalid", "{line}");
    assert!(session.log().contains("is no plugin"), "{}", session.log());
    taken_up(&mut session, "version-end");
}
