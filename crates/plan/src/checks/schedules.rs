//! Schedules against the length of the run.

use super::rule::Findings;
use super::view::View;
use crate::events::Action;
use pipe_vocab::facts::{Behind, Schedule};
use pipe_vocab::{Kind, NodeId};

/// What is decided with this much tolerance: nobody counts steps exactly.
const SLACK: f64 = 1.1;

/// Schedulers whose number of steps is known: the schedule, how many steps, whether exactly.
fn stepped<'v>(view: &'v View<'_>) -> impl Iterator<Item = (&'v NodeId, &'v Schedule, u64, bool)> {
    view.of_kind(Kind::Scheduler).filter_map(|(id, facts)| {
        let schedule = facts.schedule.as_ref()?;
        let count = view.calls(id, Action::Step).filter(|count| count.most > 0)?;
        Some((id, schedule, count.most, count.exact))
    })
}

/// A change that comes after the last step.
pub(super) fn never_reached(view: &View<'_>, found: &mut Findings) {
    for (id, schedule, steps, _) in stepped(view).filter(|(_, schedule, ..)| !schedule.warms_up) {
        let (changes, option) = schedule.changes.as_ref().map_or((&[][..], ""), |(all, option)| (all, *option));
        let late: Vec<u64> = changes.iter().copied().filter(|change| *change >= steps).collect();
        if !late.is_empty() && view.is_known(id, option) {
            let told: Vec<String> = late.iter().map(u64::to_string).collect();
            let message = format!(
                "`{id}` makes {} in this run, so its change at step {} comes too late",
                steps_of(steps),
                told.join(", ")
            );
            let help = "a step is one call by an event: change the schedule, its event, or the length of the run";
            found.add(view.at(id, option), message, help);
        }
        if let Some((end, option)) =
            schedule.end.filter(|(end, option)| beyond(*end, steps) && view.is_known(id, option))
        {
            let message = format!("`{id}` makes {} in this run, but `{option}` is {end}", steps_of(steps));
            let help = "a step is one call by an event: change the schedule, its event, or the length of the run";
            found.add(view.at(id, option), message, help);
        }
    }
}

fn beyond(end: u64, steps: u64) -> bool {
    end as f64 > steps as f64 * SLACK
}

fn steps_of(steps: u64) -> String {
    if steps == 1 { "1 step".into() } else { format!("{steps} steps") }
}

/// A run that goes on behind the end of a schedule that has nothing sensible there.
pub(super) fn ends_early(view: &View<'_>, found: &mut Findings) {
    for (id, schedule, steps, _) in stepped(view).filter(|(.., exact)| *exact) {
        let Some((end, option)) = schedule.end.filter(|(_, option)| view.is_known(id, option)) else { continue };
        let what = match schedule.behind {
            // The last step comes after the last iteration.
            Behind::TurnsBack if steps > end + 1 => "goes back up behind it",
            Behind::Vanishes if beyond(steps, end + 1) => "leaves almost no learning rate behind it",
            _ => continue,
        };
        let message = format!("`{id}` makes {} in this run, but `{option}` is {end}, and it {what}", steps_of(steps));
        let help = format!("set `{option}` to the number of steps, or step it less often");
        found.add(view.at(id, option), message, help);
    }
}

/// A warm-up that never ends.
pub(super) fn warm_up(view: &View<'_>, found: &mut Findings) {
    for (id, schedule, steps, _) in stepped(view).filter(|(_, schedule, ..)| schedule.warms_up) {
        if let Some((end, option)) = schedule.end.filter(|(end, option)| *end >= steps && view.is_known(id, option)) {
            let message = format!(
                "the warm-up `{id}` takes {}, but it is stepped {steps} times in this run: the learning rate never gets to its full \
                 value",
                steps_of(end)
            );
            found.add(view.at(id, option), message, "shorten the warm-up, or step it on `iteration_completed`");
        }
    }
}

/// A factor above 1 with which a learning rate grows at every change.
pub(super) fn grows(view: &View<'_>, found: &mut Findings) {
    for (id, facts) in view.of_kind(Kind::Scheduler) {
        let Some(option) = facts.schedule.as_ref().and_then(|schedule| schedule.grows) else { continue };
        if view.is_known(id, option) {
            let message = format!("with a factor above 1, `{id}` raises the learning rate each time, without end");
            let help = "a decay has a factor below 1; `pipe find-lr` tries rising learning rates";
            found.add(view.at(id, option), message, help);
        }
    }
}
