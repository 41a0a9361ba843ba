//! On which occurrences of an event targets run: the rules of PyTorch-Ignite.

use pipe_core::{Filter, Limits};

use super::world::World;

/// The counts at which a handler is called with this filter, over twelve iterations in three epochs.
fn counts(filter: Filter, event: &str) -> Vec<u64> {
    let mut world = World::new(Limits { max_epochs: Some(3), ..Limits::default() }, 4, 1, false);
    world.on(&[&format!("engine.trainer:{event}")], filter, &["h"]);
    assert!(!world.drive());
    let prefix = format!("h {event} ");
    world.log.entries().iter().filter_map(|entry| entry.strip_prefix(&prefix)?.parse().ok()).collect()
}

fn iterations(filter: Filter) -> Vec<u64> {
    counts(filter, "iteration_completed")
}

#[test]
fn every_counts_from_the_start_or_from_after() {
    let all: Vec<u64> = (1..=12).collect();
    assert_eq!(iterations(Filter::default()), all);
    assert_eq!(iterations(Filter { every: Some(1), ..Filter::default() }), all);
    assert_eq!(iterations(Filter { every: Some(5), ..Filter::default() }), [5, 10], "over the epochs' ends");
    assert_eq!(iterations(Filter { every: Some(13), ..Filter::default() }), [0; 0]);
    // Ignite: (event - after - 1) % every == 0.
    assert_eq!(iterations(Filter { every: Some(4), after: Some(2), ..Filter::default() }), [3, 7, 11]);
    assert_eq!(iterations(Filter { every: Some(4), after: Some(0), ..Filter::default() }), [1, 5, 9]);
}

#[test]
fn before_and_after_are_exclusive() {
    assert_eq!(iterations(Filter { after: Some(9), ..Filter::default() }), [10, 11, 12]);
    assert_eq!(iterations(Filter { before: Some(4), ..Filter::default() }), [1, 2, 3]);
    assert_eq!(iterations(Filter { after: Some(4), before: Some(7), ..Filter::default() }), [5, 6]);
    assert_eq!(iterations(Filter { after: Some(4), before: Some(5), ..Filter::default() }), [0; 0]);
    let both = Filter { every: Some(2), after: Some(4), before: Some(9), ..Filter::default() };
    assert_eq!(iterations(both), [5, 7]);
}

#[test]
fn first_is_added_to_every() {
    assert_eq!(iterations(Filter { first: true, every: Some(5), ..Filter::default() }), [1, 5, 10]);
    assert_eq!(iterations(Filter { first: true, ..Filter::default() }), [1]);
    assert_eq!(iterations(Filter { first: true, once: vec![4], ..Filter::default() }), [1, 4]);
    assert_eq!(iterations(Filter { first: true, every: Some(1), ..Filter::default() }).len(), 12, "once, not twice");
}

#[test]
fn once_is_once_at_each_of_its_counts() {
    assert_eq!(iterations(Filter { once: vec![3], ..Filter::default() }), [3]);
    assert_eq!(iterations(Filter { once: vec![11, 2, 40], ..Filter::default() }), [2, 11]);
    assert_eq!(iterations(Filter { once: vec![2, 8], after: Some(4), ..Filter::default() }), [8]);
    assert_eq!(iterations(Filter { once: vec![3], every: Some(6), ..Filter::default() }), [3, 6, 12]);
}

#[test]
fn events_of_epochs_are_counted_in_epochs() {
    for event in ["epoch_started", "epoch_completed"] {
        assert_eq!(counts(Filter { every: Some(2), ..Filter::default() }, event), [2]);
        assert_eq!(counts(Filter { once: vec![3], ..Filter::default() }, event), [3]);
    }
    assert_eq!(counts(Filter { every: Some(2), ..Filter::default() }, "iteration_started"), [2, 4, 6, 8, 10, 12]);
}

/// An evaluator that runs after each epoch counts from 1 each time.
#[test]
fn once_in_a_nested_engine_is_once_in_each_of_its_runs() {
    let mut world = World::new(Limits { max_epochs: Some(3), ..Limits::default() }, 1, 1, false);
    world.on(&["engine.trainer:epoch_completed"], Filter::default(), &["evaluator"]);
    let once = |count: u64| Filter { once: vec![count], ..Filter::default() };
    world.on(&["engine.evaluator:iteration_completed"], once(2), &["iteration"]);
    world.on(&["engine.evaluator:completed"], once(1), &["completed"]);
    world.on(&["engine.trainer:iteration_completed"], once(2), &["outer"]);
    assert!(!world.drive());
    let entries = world.log.entries();
    let calls: Vec<&str> = entries.iter().map(String::as_str).filter(|e| e.contains("ed ")).collect();
    let run = ["iteration iteration_completed 2", "completed completed 1"];
    assert_eq!(calls, [&run[..], &["outer iteration_completed 2"], &run, &run].concat());
}

/// Two events of one table are two events: both have their first.
#[test]
fn once_is_once_for_each_event_of_a_table() {
    let mut world = World::new(Limits { max_epochs: Some(2), ..Limits::default() }, 2, 1, false);
    let events = ["engine.trainer:iteration_completed", "engine.trainer:epoch_completed"];
    world.on(&events, Filter { once: vec![1], ..Filter::default() }, &["h"]);
    assert!(!world.drive());
    let entries = world.log.entries();
    let calls: Vec<&String> = entries.iter().filter(|entry| entry.starts_with("h ")).collect();
    assert_eq!(calls, ["h iteration_completed 1", "h epoch_completed 1"]);
}

/// PyTorch-Ignite's issue 3625: `once` fired twice where an epoch was ended early.
#[test]
fn once_is_once_where_an_epoch_ends_early() {
    let mut world = World::new(Limits { max_epochs: Some(3), ..Limits::default() }, 4, 1, false);
    world.on(&["engine.trainer:epoch_completed"], Filter { once: vec![2], ..Filter::default() }, &["h"]);
    // Four steps and two more.
    world.at_entry(5, |run| {
        run.terminate(&"engine.trainer".parse().unwrap(), pipe_core::Termination::Epoch);
    });
    assert!(!world.drive());
    let entries = world.log.entries();
    assert_eq!(entries.iter().filter(|entry| entry.starts_with("h ")).collect::<Vec<_>>(), ["h epoch_completed 2"]);
    assert_eq!(entries.iter().filter(|entry| entry.starts_with("trainer step")).count(), 4 + 2 + 4);
}
