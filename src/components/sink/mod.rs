//! Sinks: consume records.

pub mod console;
pub mod json_lines;
pub mod process;
pub mod tensorboard;

use anyhow::Result;

use crate::registry::{Kind, PortKind};
use crate::run::{Instance, Progress, Record, Shared, Stateful, Summary};

/// Consumes records: prints them, writes them, sends them.
pub trait Sink: Stateful {
    /// Takes one record.
    ///
    /// # Errors
    /// When it cannot be written: where, and why.
    fn write(&mut self, record: &Record) -> Result<()>;

    /// Told after every iteration of an engine; cheap, and never stored.
    fn progress(&mut self, _progress: &Progress) {}

    /// Makes what was written visible to readers.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// The run has ended.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn finish(&mut self, _summary: &Summary) -> Result<()> {
        self.flush()
    }
}

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
