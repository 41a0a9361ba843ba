//! Event edges that can never fire: what their filters let through comes after their engine has ended.

use super::rule::Findings;
use super::view::View;
use pipe_vocab::event::{EngineEvent, EventName, Filter};
use pipe_vocab::{Kind, NodeId};

/// Each of them.
pub(super) fn never_fires(view: &View<'_>, found: &mut Findings) {
    for edge in view.events {
        let limits = edge.events.iter().map(|(node, event, _)| limit(view, node, event, &edge.filter));
        let limits: Option<Vec<Limit>> = limits.collect();
        let Some(limits) = limits.filter(|limits| limits.iter().all(|limit| !fires(&edge.filter, limit.count))) else {
            continue;
        };
        let told: Vec<&str> = limits.iter().map(|limit| limit.told.as_str()).collect();
        let targets: Vec<String> = edge.targets.iter().map(|target| format!("`{}`", target.node)).collect();
        let message = format!("this `[[on]]` never runs {}: {}", targets.join(", "), told.join("; "));
        let help = "change `every`, `once`, `after` or `before`, or let the engine run longer";
        found.add(edge.location.clone(), message, help);
    }
}

/// How far the count of an event goes, and why.
struct Limit {
    count: u64,
    told: String,
}

/// `None` where it is not known, or the event has no count of its own.
fn limit(view: &View<'_>, id: &NodeId, event: &str, filter: &Filter) -> Option<Limit> {
    let EventName::Engine(event) = EventName::from(event) else { return None };
    let node = view.nodes.get(id).filter(|node| node.id.kind == Kind::Engine)?;
    let number = |name: &str| view.number(id, name);
    // An engine without epochs to set makes one each time, and counts anew.
    let epochs = if node.takes("max_epochs") { number("max_epochs") } else { Some(1) };
    if matches!(event, EngineEvent::BackwardCompleted | EngineEvent::OptimizerStepCompleted) && !node.takes("optimizer")
    {
        return Some(Limit { count: 0, told: format!("`{id}` does not train") });
    }
    if event == EngineEvent::Started {
        // Before its first epoch.
        return (!filter.passes(0)).then(|| Limit { count: 0, told: format!("the count at the start of `{id}` is 0") });
    }
    let (count, what) = if event.counts_iterations() {
        let of_epochs = epochs.zip(number("epoch_length")).map(|(epochs, length)| epochs.saturating_mul(length));
        (of_epochs.into_iter().chain(number("max_iterations")).min(), "iteration")
    } else {
        (epochs, "epoch")
    };
    let Some(count) = count else {
        return Some(Limit { count: u64::MAX, told: format!("the first {what} of `{id}` is 1") });
    };
    Some(Limit { count, told: format!("the last {what} of `{id}` is {count}") })
}

/// Whether a filter lets any count from 1 to `last` through.
fn fires(filter: &Filter, last: u64) -> bool {
    let after = filter.after.unwrap_or(0);
    // The least count of each way to pass; `before` keeps the large ones out.
    let least = [Some(after.saturating_add(1)), filter.every.filter(|_| filter.after.is_none())];
    let counts = least.into_iter().flatten().chain(filter.once.iter().copied());
    counts.into_iter().any(|count| count <= last && filter.passes(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_fires_if_any_count_passes() {
        let numbers = [None, Some(1), Some(2), Some(5)];
        let each = |place: usize| numbers[place % numbers.len()];
        for number in 0..384 {
            let [every, after, before] = [number, number / 4, number / 16].map(each);
            let once = [vec![], vec![3], vec![9, 4]][number / 64 % 3].clone();
            let filter = Filter { every, once, before, after, first: number >= 192 };
            for last in 0..12 {
                assert_eq!(fires(&filter, last), (1..=last).any(|count| filter.passes(count)), "{filter:?} {last}");
            }
        }
    }
}
