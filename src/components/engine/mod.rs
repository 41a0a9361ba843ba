//! Engines: what one iteration does. The loop around it is [`crate::engine`].

pub mod evaluate;
pub mod train;

use std::rc::Rc;

use crate::engine::Engine;
use crate::registry::{Kind, PortKind};
use crate::run::Instance;

impl PortKind for Engine {
    const KIND: Kind = Kind::Engine;
    type Shared = Rc<Engine>;

    fn from_instance(instance: &Instance) -> Option<Self::Shared> {
        match instance {
            Instance::Engine(engine) => Some(engine.clone()),
            _ => None,
        }
    }
}
