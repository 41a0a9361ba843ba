//! The best of each monitored value so far, for those who tell of it.

use std::cell::RefCell;

use pipe_vocab::{Best, NodeId, ValueRef};

/// The monitored values of a run.
#[derive(Debug, Default)]
pub struct Bests(RefCell<Vec<Monitored>>);

#[derive(Debug)]
struct Monitored {
    /// Who monitors it.
    by: NodeId,
    monitor: ValueRef,
    higher_is_better: bool,
    best: Option<Best>,
}

impl Bests {
    /// From now on `by` monitors these values, and whether higher ones are better, in place of those before.
    pub fn watch(&self, by: &NodeId, monitors: Vec<(ValueRef, bool)>) {
        let mut all = self.0.borrow_mut();
        let former: Vec<Monitored> = all.extract_if(.., |one| one.by == *by).collect();
        all.extend(monitors.into_iter().map(|(monitor, higher_is_better)| {
            let same = |one: &&Monitored| one.monitor == monitor && one.higher_is_better == higher_is_better;
            let best = former.iter().find(same).and_then(|one| one.best.clone());
            Monitored { by: by.clone(), monitor, higher_is_better, best }
        }));
    }

    /// Takes note of a value; its epoch is not known where it was measured in an earlier life of the run.
    pub fn measured(&self, monitor: &ValueRef, value: f64, step: u64, epoch: Option<u64>) {
        for one in self.0.borrow_mut().iter_mut().filter(|one| one.monitor == *monitor && value.is_finite()) {
            let better = one.best.as_ref().is_none_or(|best| match one.higher_is_better {
                true => value > best.value,
                false => value < best.value,
            });
            if better {
                one.best = Some(Best { monitor: monitor.clone(), value, step, epoch });
            }
        }
    }

    /// Nobody monitors any more what this node measures or monitored.
    pub fn forget(&self, node: &NodeId) {
        self.0.borrow_mut().retain(|one| one.by != *node && one.monitor.node != *node);
    }

    /// The best so far of the values that these nodes measure, each once.
    pub fn of(&self, nodes: &[&NodeId]) -> Vec<Best> {
        let mut found: Vec<Best> = Vec::new();
        for best in self.0.borrow().iter().filter_map(|one| one.best.as_ref()) {
            if nodes.contains(&&best.monitor.node) && found.iter().all(|other| other.monitor != best.monitor) {
                found.push(best.clone());
            }
        }
        found
    }
}
