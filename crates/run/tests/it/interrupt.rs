//! Ctrl-C and checkpoints at every point of a run: what is done is not done again, and nothing is left out.

use pipe_core::{Filter, Limits};

use super::world::World;

/// Two engines and handlers on every event.
fn world(limits: Limits, group: u64, resumes: bool) -> World {
    let mut world = World::new(limits, 3, group, resumes);
    let always = Filter::default;
    world.on(&["engine.trainer:started"], always(), &["begin", "evaluator"]);
    world.on(&["engine.trainer:epoch_started"], always(), &["dawn", "morning"]);
    for event in ["get_batch_started", "dataloader_stop_iteration", "get_batch_completed", "iteration_started"] {
        world.on(&[&format!("engine.trainer:{event}")], always(), &["before_work"]);
    }
    for event in ["backward_completed", "optimizer_step_completed"] {
        world.on(&[&format!("engine.trainer:{event}")], always(), &["at_work", "evaluator", "still_at_work"]);
    }
    world.on(&["engine.trainer:iteration_completed"], always(), &["tick"]);
    world.on(&["engine.trainer:iteration_completed"], Filter { every: Some(2), ..always() }, &["evaluator", "tock"]);
    world.on(&["engine.trainer:iteration_completed"], Filter { once: vec![2, 4], ..always() }, &["rare", "rarer"]);
    world.on(&["engine.trainer:epoch_completed"], always(), &["before", "evaluator", "after"]);
    world.on(&["engine.trainer:completed"], always(), &["last", "evaluator", "end"]);
    for event in ["started", "epoch_started", "iteration_completed", "epoch_completed", "completed"] {
        world.on(&[&format!("engine.evaluator:{event}")], always(), &["inner", "inmost"]);
    }
    world
}

/// Each with as many iterations as it allows: all, up to the middle of an epoch, short epochs.
fn limits() -> [Limits; 3] {
    let epochs = Limits { max_epochs: Some(2), ..Limits::default() };
    [epochs, Limits { max_epochs: None, max_iterations: Some(5), ..epochs }, Limits { epoch_length: Some(2), ..epochs }]
}

fn whole(limits: Limits, group: u64, resumes: bool) -> Vec<String> {
    let mut world = world(limits, group, resumes);
    assert!(!world.drive());
    world.log.entries()
}

/// What was done up to what `former` has saved, and what a run that goes on from there does.
fn joined(former: &World, limits: Limits, group: u64, resumes: bool) -> Vec<String> {
    let mut world = world(limits, group, resumes);
    let belong = world.load(former);
    assert!(!world.drive());
    let before = former.log.entries();
    before[..belong].iter().cloned().chain(world.log.entries()).collect()
}

#[test]
fn an_interruption_in_a_nested_engine_stops_the_remaining_targets() {
    let limits = Limits { max_epochs: Some(2), ..Limits::default() };
    let entries = whole(limits, 3, false);
    let after = entries.iter().position(|entry| entry.starts_with("before epoch_completed")).unwrap();
    let at = after + entries[after..].iter().position(|entry| entry == "evaluator step 1").unwrap();
    let mut cut = world(limits, 3, false);
    cut.interrupt_at(at);
    assert!(cut.drive(), "the interruption is passed on");
    assert!(cut.log.entries().last().unwrap().starts_with("inmost iteration_completed 1"), "nothing ran after it");
    let state = cut.trainer.current();
    assert!((state.epoch, state.iteration, state.in_epoch) == (1, 3, true), "{state:?}");
    let frames = cut.test.run.place.frames();
    let done: Vec<String> = frames[0].done.iter().map(ToString::to_string).collect();
    assert_eq!(
        (frames.len(), frames[0].event.as_str(), &done[..]),
        (1, "epoch_completed", &["handler.before".to_owned()][..])
    );
}

/// At each entry of the log, for engines of every kind: `cut` is what happens there.
fn everywhere(kind: &str, cut: impl Fn(&World, usize), only: impl Fn(&str) -> bool) {
    for (limits, (group, resumes)) in limits().into_iter().zip([(1, false), (2, true), (2, false)]) {
        let entries = whole(limits, group, resumes);
        for at in (0..entries.len()).filter(|at| only(&entries[*at])) {
            let mut world = world(limits, group, resumes);
            cut(&world, at);
            if world.drive() {
                world.save();
            } else if kind == "Ctrl-C" {
                assert_eq!(world.log.entries(), entries, "{limits:?}, {kind} at {}: {at}", entries[at]);
                continue;
            }
            let all = joined(&world, limits, group, resumes);
            let place = all.iter().zip(&entries).position(|(a, b)| a != b);
            let context = place.map(|at| (&all[at.saturating_sub(3)..(at + 3).min(all.len())], &entries[at]));
            assert!(all == entries, "{limits:?} {group} {resumes}, {kind} at {}: {at}: {context:?}", entries[at]);
        }
    }
}

#[test]
fn interrupted_anywhere_a_run_goes_on_with_what_is_left() {
    everywhere("Ctrl-C", World::interrupt_at, |_| true);
}

#[test]
fn a_checkpoint_taken_by_any_target_goes_on_from_there() {
    // An engine at work saves nothing.
    everywhere("a checkpoint", World::save_at, |entry| !entry.contains(" step ") && !entry.ends_with(" results"));
}

#[test]
fn interrupted_while_it_waits_for_data_a_run_waits_again() {
    for (limits, (group, resumes)) in limits().into_iter().zip([(1, false), (2, true), (2, false)]) {
        let entries = whole(limits, group, resumes);
        let mut interrupted = 0;
        for batch in 0.. {
            let mut world = world(limits, group, resumes);
            world.interrupt_in_waiting(batch);
            if !world.drive() {
                break;
            }
            interrupted += 1;
            world.save();
            assert_eq!(joined(&world, limits, group, resumes), entries, "{limits:?}, in waiting for batch {batch}");
        }
        assert!(interrupted >= 4, "{limits:?}: {interrupted}");
    }
}
