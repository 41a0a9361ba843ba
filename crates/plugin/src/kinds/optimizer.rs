//! Optimizers: change parameters from their gradients.

use std::cell::RefCell;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::state::{Deferred, serve_state};
use crate::Kind;
use crate::boundary::{Input, Remote, Served, no_method};
use crate::message::{Message, Reader, Wire};
use crate::state::{State, Stateful};

const GROUPS: u32 = 1;
const STEP: u32 = 2;

/// Parameters that share their settings.
#[derive(Debug)]
pub struct ParamGroup {
    /// Names of the parameters, as in the model's state dict.
    pub names: Vec<String>,
    /// The parameters themselves.
    pub params: Vec<Tensor>,
    /// The settings as configured.
    pub settings: GroupSettings,
}

/// What schedulers and live edits change of a group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GroupSettings {
    /// The learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// SGD's momentum or Adam's first beta; `None` for an optimizer without.
    pub momentum: Option<f64>,
}

/// Changes a model's parameters from their gradients. The program clears gradients, clips them, and leaves out steps that
/// overflowed in mixed precision.
pub trait Optimizer: Stateful {
    /// The parameter groups as configured; asked once, after building.
    fn groups(&self) -> Vec<ParamGroup>;

    /// One update from the gradients that are there (`Tensor::grad`, where `defined`). `settings` holds what each group's
    /// settings are now, in the order of [`Optimizer::groups`]. Runs without recording gradients.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn step(&mut self, settings: &[GroupSettings]) -> Result<()>;
}

impl Wire for ParamGroup {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&(&self.names, self.settings))?;
        self.params.pack(to)
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        let (names, settings) = from.get()?;
        Ok(ParamGroup { names, settings, params: Vec::unpack(from)? })
    }
}

/// In a cell, so that an optimizer that calls itself through the program is an error and not a fault.
impl Served for RefCell<Box<dyn Optimizer>> {
    fn serve(&self, method: u32, mut input: Input<'_>) -> Result<Message> {
        let optimizer = &mut **self.try_borrow_mut()?;
        match method {
            GROUPS => Message::of(&optimizer.groups()),
            STEP => {
                let settings: Vec<GroupSettings> = input.reader.get()?;
                tch::no_grad(|| optimizer.step(&settings))?;
                Ok(Message::default())
            }
            other => serve_state(optimizer, other, input).unwrap_or_else(|| Err(no_method(Kind::Optimizer, other))),
        }
    }
}

/// An optimizer of the other side, as the program uses it.
pub struct RemoteOptimizer(Deferred);

impl RemoteOptimizer {
    pub(crate) fn new(remote: Remote) -> RemoteOptimizer {
        RemoteOptimizer(Deferred::new(remote))
    }

    /// See [`Optimizer::groups`].
    ///
    /// # Errors
    /// Those of the plugin.
    pub fn groups(&self) -> Result<Vec<ParamGroup>> {
        Vec::unpack(&mut self.0.call(GROUPS, &Message::default())?.reader())
    }

    /// See [`Optimizer::step`].
    ///
    /// # Errors
    /// Those of the plugin.
    pub fn step(&self, settings: &[GroupSettings]) -> Result<()> {
        self.0.call(STEP, &Message::plain(settings)?).map(drop)
    }
}

impl Stateful for RemoteOptimizer {
    fn state(&self) -> Result<State> {
        self.0.state()
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.0.load_state(state)
    }
}
