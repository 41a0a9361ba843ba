//! What all kinds with state share at the border.

use std::cell::RefCell;

use anyhow::{Error, Result};

use crate::boundary::{Answer, Input, Remote};
use crate::message::{Message, Wire};
use crate::state::{State, Stateful};

const STATE: u32 = 100;
const LOAD_STATE: u32 = 101;

/// Answers the methods of [`Stateful`]; `None` for others.
pub(crate) fn serve_state<T: Stateful + ?Sized>(
    component: &mut T,
    method: u32,
    mut input: Input<'_>,
) -> Option<Result<Message>> {
    match method {
        STATE => Some(component.state().and_then(|state| Message::of(&state))),
        LOAD_STATE => Some(
            State::unpack(&mut input.reader)
                .and_then(|state| component.load_state(&state))
                .map(|()| Message::default()),
        ),
        _ => None,
    }
}

/// An object of the other side with methods that return nothing: what goes wrong in them is the error of the next call.
pub(crate) struct Deferred {
    remote: Remote,
    error: RefCell<Option<Error>>,
}

impl Deferred {
    pub(crate) fn new(remote: Remote) -> Deferred {
        Deferred { remote, error: RefCell::default() }
    }

    pub(crate) fn call(&self, method: u32, message: &Message) -> Result<Answer> {
        match self.error.take() {
            Some(error) => Err(error),
            None => self.remote.call(method, message),
        }
    }

    /// Calls a method that returns nothing.
    pub(crate) fn tell(&self, method: u32, message: Result<Message>) {
        let told = message.and_then(|message| self.remote.call(method, &message).map(drop));
        if let Err(error) = told {
            self.error.borrow_mut().get_or_insert(error);
        }
    }

    pub(crate) fn state(&self) -> Result<State> {
        State::unpack(&mut self.call(STATE, &Message::default())?.reader())
    }

    pub(crate) fn load_state(&self, state: &State) -> Result<()> {
        self.call(LOAD_STATE, &Message::of(state)?).map(drop)
    }
}
