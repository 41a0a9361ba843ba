//! Handlers: called on events.

use anyhow::Result;

use crate::engine::EventContext;
use crate::registry::{Kind, PortKind};
use crate::run::{Instance, Shared, Stateful};

/// Called on the events that name it.
pub trait Handler: Stateful {
    /// Does its work.
    ///
    /// # Errors
    /// They never vanish: the other targets of the event run, then the engine stops with the error.
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()>;
}

impl PortKind for dyn Handler {
    const KIND: Kind = Kind::Handler;
    type Shared = Shared<dyn Handler>;

    fn from_instance(instance: &Instance) -> Option<Self::Shared> {
        match instance {
            Instance::Handler(handler) => Some(handler.clone()),
            _ => None,
        }
    }
}
