//! Ctrl-C and checkpoints at every point of a run: what is done is not done again, and nothing is left out.

use std::cell::RefCell;
use std::rc::Rc;

use pipe_core::{Filter, Limits, State};
use pipe_run::testing::stored;

use super::world::World;

/// Two engines and handlers on every event at which a run can be cut.
fn world(limits: Limits, group: u64) -> World {
    let mut world = World::new(limits, 3, group);
    let always = Filter::default;
    world.on(&["engine.trainer:started"], always(), &["begin"]);
    world.on(&["engine.trainer:epoch_started"], always(), &["dawn", "morning"]);
    world.on(&["engine.trainer:iteration_completed"], always(), &["tick"]);
    if group == 1 {
        world.on(
            &["engine.trainer:iteration_completed"],
            Filter { every: Some(2), ..always() },
            &["evaluator", "tock"],
        );
    }
    world.on(&["engine.trainer:epoch_completed"], always(), &["before", "evaluator", "after"]);
    world.on(&["engine.trainer:completed"], always(), &["last", "evaluator", "end"]);
    for event in ["epoch_started", "iteration_completed", "epoch_completed", "completed"] {
        world.on(&[&format!("engine.evaluator:{event}")], always(), &["inner"]);
    }
    world
}

/// Each with as many iterations as it allows: all, up to the middle of an epoch, short epochs.
fn limits() -> [Limits; 3] {
    let epochs = Limits { max_epochs: Some(2), ..Limits::default() };
    [epochs, Limits { max_epochs: None, max_iterations: Some(5), ..epochs }, Limits { epoch_length: Some(2), ..epochs }]
}

fn is_inner(entry: &str) -> bool {
    entry.starts_with("inner ") || entry.starts_with("evaluator ")
}

/// Both lives of a run as one, without what each life does at its start.
fn joined(first: &[String], second: &[String]) -> Vec<String> {
    first.iter().chain(second).filter(|entry| !entry.starts_with("begin ")).cloned().collect()
}

/// Without the run of the evaluator at the end that was cut off: it is run again from its beginning.
fn less_cut_run(mut entries: Vec<String>) -> Vec<String> {
    while entries.last().is_some_and(|entry| is_inner(entry)) {
        entries.pop();
    }
    entries
}

fn whole(limits: Limits, group: u64) -> Vec<String> {
    let mut world = world(limits, group);
    assert!(!world.drive());
    world.log.entries()
}

/// The entries of a run that goes on from `state`.
fn resumed(limits: Limits, group: u64, state: &State) -> Vec<String> {
    let mut world = world(limits, group);
    world.trainer.load_state(state).unwrap();
    assert!(!world.drive());
    world.log.entries()
}

#[test]
fn an_interruption_in_a_nested_engine_stops_the_remaining_targets() {
    let limits = Limits { max_epochs: Some(2), ..Limits::default() };
    let entries = whole(limits, 3);
    let at = entries.iter().position(|entry| entry == "evaluator step 1").unwrap();
    let mut cut = world(limits, 3);
    cut.interrupt_at(at);
    assert!(cut.drive(), "the interruption is passed on");
    assert_eq!(cut.log.entries().last().unwrap(), "inner iteration_completed 1", "nothing ran after the iteration");
    let state = cut.trainer.current();
    assert!((state.epoch, state.iteration, state.in_epoch) == (1, 3, true), "{state:?}");
    let firing = state.firing.unwrap();
    let done: Vec<String> = firing.done.iter().map(ToString::to_string).collect();
    assert_eq!((firing.event.name(), &done[..]), ("epoch_completed", &["handler.before".to_owned()][..]));
    let second = resumed(limits, 3, &cut.saved());
    assert_eq!(second[..2], ["begin started 1", "inner epoch_started 1"], "it goes on with the evaluation");
}

#[test]
fn interrupted_anywhere_a_run_goes_on_with_what_is_left() {
    for limits in limits() {
        let entries = whole(limits, 1);
        let expected = joined(&entries, &[]);
        for at in 0..entries.len() {
            let mut cut = world(limits, 1);
            cut.interrupt_at(at);
            let broken = cut.drive();
            let first = cut.log.entries();
            if !broken {
                assert_eq!(joined(&first, &[]), expected, "{limits:?}, Ctrl-C at {}: {at}", entries[at]);
                continue;
            }
            // A run of the evaluator that came to its end is not repeated.
            let ended = first.last().is_some_and(|entry| entry == "inner completed 1");
            let first = if ended { first } else { less_cut_run(first) };
            assert!(first.len() < entries.len());
            let second = resumed(limits, 1, &cut.saved());
            assert_eq!(joined(&first, &second), expected, "{limits:?}, Ctrl-C at {}: {at}", entries[at]);
        }
    }
}

/// A checkpoint that a target takes in the middle of an event goes on with the next target.
#[test]
fn a_checkpoint_taken_by_any_target_goes_on_with_the_next() {
    for limits in limits() {
        let entries = whole(limits, 1);
        let expected = joined(&entries, &[]);
        let called = |entry: &str| !entry.contains(" step ") && !entry.ends_with(" results");
        for at in (0..entries.len()).filter(|at| called(&entries[*at])) {
            let mut run = world(limits, 1);
            let taken = Rc::new(RefCell::new(None));
            let (trainer, into) = (run.trainer.clone(), taken.clone());
            run.at_entry(at, move |_| *into.borrow_mut() = Some(stored(&trainer.state().unwrap())));
            assert!(!run.drive());
            let first = less_cut_run(entries[..=at].to_vec());
            let second = resumed(limits, 1, &taken.borrow_mut().take().unwrap());
            assert_eq!(joined(&first, &second), expected, "{limits:?}, a checkpoint at {}: {at}", entries[at]);
        }
    }
}

/// Iterations that make one piece of work are not parted.
#[test]
fn a_run_stops_between_groups_of_iterations_only() {
    let limits = Limits { max_epochs: Some(2), ..Limits::default() };
    for group in [2, 3, 4] {
        let entries = whole(limits, group);
        for at in 0..entries.len() {
            let mut cut = world(limits, group);
            cut.interrupt_at(at);
            if !cut.drive() {
                continue;
            }
            let state = cut.trainer.current();
            let whole_groups = state.epoch_iteration.is_multiple_of(group) || state.epoch_iteration == 3;
            assert!(whole_groups, "groups of {group}, Ctrl-C at {}: {state:?}", entries[at]);
            let first = cut.log.entries();
            let ended = first.last().is_some_and(|entry| entry == "inner completed 1");
            let first = if ended { first } else { less_cut_run(first) };
            let second = resumed(limits, group, &cut.saved());
            assert_eq!(joined(&first, &second), joined(&entries, &[]), "groups of {group}, Ctrl-C at {}", entries[at]);
        }
    }
}
