//! Schedulers: drive an optimizer's values over time.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::Result;

use super::state::{Deferred, serve_state};
use crate::Kind;
use crate::boundary::{Input, Remote, Served, no_method};
use crate::message::Message;
use crate::state::{State, Stateful};
use pipe_vocab::ValueRef;

const STEP: u32 = 1;
const RATES: u32 = 2;

/// The newest value of everything that was measured.
#[derive(Debug, Clone, Default)]
pub struct Values(BTreeMap<String, f64>);

impl Values {
    /// Values by full name, such as `metric.coco:segm/AP`.
    pub fn new(values: impl IntoIterator<Item = (String, f64)>) -> Values {
        Values(values.into_iter().collect())
    }

    /// The newest value of that name, if it has been measured yet.
    pub fn get(&self, name: &ValueRef) -> Option<f64> {
        self.0.get(&name.to_string()).copied()
    }

    /// All of them, by full name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    pub(crate) fn pairs(&self) -> &BTreeMap<String, f64> {
        &self.0
    }
}

/// Drives the values of one optimizer, named by a port of type `Ref<dyn Optimizer>`; stepped by the event edges that name
/// it. Several schedulers of one optimizer multiply.
pub trait Scheduler: Stateful {
    /// Counts one step.
    ///
    /// # Errors
    /// When a monitored value is missing.
    fn step(&mut self, values: &Values) -> Result<()>;

    /// The learning rate now, after the steps counted so far, of a group whose configured rate is `base`.
    fn lr(&self, base: f64) -> f64;

    /// The momentum now, for those that drive it too.
    fn momentum(&self) -> Option<f64> {
        None
    }
}

/// In a cell, so that a scheduler that calls itself through the program is an error and not a fault.
impl Served for RefCell<Box<dyn Scheduler>> {
    fn serve(&self, method: u32, mut input: Input<'_>) -> Result<Message> {
        let scheduler = &mut **self.try_borrow_mut()?;
        match method {
            STEP => {
                scheduler.step(&Values(input.reader.get()?))?;
                Ok(Message::default())
            }
            RATES => {
                let bases: Vec<f64> = input.reader.get()?;
                let rates: Vec<f64> = bases.into_iter().map(|base| scheduler.lr(base)).collect();
                Message::plain(&(rates, scheduler.momentum()))
            }
            other => serve_state(scheduler, other, input).unwrap_or_else(|| Err(no_method(Kind::Scheduler, other))),
        }
    }
}

/// A scheduler of the other side, as the program uses it.
pub struct RemoteScheduler(Deferred);

impl RemoteScheduler {
    pub(crate) fn new(remote: Remote) -> RemoteScheduler {
        RemoteScheduler(Deferred::new(remote))
    }

    /// See [`Scheduler::step`].
    ///
    /// # Errors
    /// Those of the plugin.
    pub fn step(&self, values: &Values) -> Result<()> {
        self.0.call(STEP, &Message::plain(values.pairs())?).map(drop)
    }

    /// The learning rates now of groups with these configured rates, and the momentum.
    ///
    /// # Errors
    /// Those of the plugin.
    pub fn rates(&self, bases: &[f64]) -> Result<(Vec<f64>, Option<f64>)> {
        self.0.call(RATES, &Message::plain(bases)?)?.reader().get()
    }
}

impl Stateful for RemoteScheduler {
    fn state(&self) -> Result<State> {
        self.0.state()
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.0.load_state(state)
    }
}
