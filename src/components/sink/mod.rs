//! Sinks: consume records.

pub mod console;
pub mod json_lines;
pub mod process;
pub mod tensorboard;

pub use pipe_plugin::Sink;

use crate::registry::{Kind, PortKind};
use crate::run::{Instance, Shared};

impl PortKind for dyn Sink {
    const KIND: Kind = Kind::Sink;
    type Shared = Shared<dyn Sink>;

    fn from_instance(instance: &Instance) -> Option<Self::Shared> {
        match instance {
            Instance::Sink(sink) => Some(sink.clone()),
            _ => None,
        }
    }
}
