//! Sinks: consume records.

use std::cell::RefCell;

use anyhow::Result;

use super::state::{Deferred, serve_state};
use crate::Kind;
use crate::boundary::{Input, Remote, Served, no_method};
use crate::message::{Message, Wire};
use crate::record::{Evaluation, Progress, Record, Summary};
use crate::state::{State, Stateful};

const WRITE: u32 = 1;
const PROGRESS: u32 = 2;
const FLUSH: u32 = 3;
const FINISH: u32 = 4;
const EVALUATED: u32 = 5;

/// Consumes records: prints them, writes them, sends them.
pub trait Sink: Stateful {
    /// Takes one record.
    ///
    /// # Errors
    /// When it cannot be written: where, and why.
    fn write(&mut self, record: &Record) -> Result<()>;

    /// Told after every iteration of an engine; cheap, and never stored.
    fn progress(&mut self, _progress: &Progress) {}

    /// Told of the values of an evaluation together, after the records of each; never stored.
    fn evaluated(&mut self, _evaluation: &Evaluation) {}

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

/// In a cell, so that a sink that calls itself through the program is an error and not a fault.
impl Served for RefCell<Box<dyn Sink>> {
    fn serve(&self, method: u32, mut input: Input<'_>) -> Result<Message> {
        let sink = &mut **self.try_borrow_mut()?;
        let from = &mut input.reader;
        match method {
            WRITE => sink.write(&Record::unpack(from)?)?,
            PROGRESS => sink.progress(&Progress::unpack(from)?),
            EVALUATED => sink.evaluated(&Evaluation::unpack(from)?),
            FLUSH => sink.flush()?,
            FINISH => sink.finish(&Summary::unpack(from)?)?,
            other => return serve_state(sink, other, input).unwrap_or_else(|| Err(no_method(Kind::Sink, other))),
        }
        Ok(Message::default())
    }
}

/// A sink of the other side, as the program uses it.
pub struct RemoteSink(Deferred);

impl RemoteSink {
    pub(crate) fn new(remote: Remote) -> RemoteSink {
        RemoteSink(Deferred::new(remote))
    }
}

impl Stateful for RemoteSink {
    fn state(&self) -> Result<State> {
        self.0.state()
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.0.load_state(state)
    }
}

impl Sink for RemoteSink {
    fn write(&mut self, record: &Record) -> Result<()> {
        self.0.call(WRITE, &Message::of(record)?).map(drop)
    }

    fn progress(&mut self, progress: &Progress) {
        self.0.tell(PROGRESS, Message::of(progress));
    }

    fn evaluated(&mut self, evaluation: &Evaluation) {
        self.0.tell(EVALUATED, Message::of(evaluation));
    }

    fn flush(&mut self) -> Result<()> {
        self.0.call(FLUSH, &Message::default()).map(drop)
    }

    fn finish(&mut self, summary: &Summary) -> Result<()> {
        self.0.call(FINISH, &Message::of(summary)?).map(drop)
    }
}
