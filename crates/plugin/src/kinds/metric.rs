//! Metrics: numbers computed over an evaluation.

use std::cell::RefCell;

use anyhow::{Result, bail};

use super::model::ModelOutput;
use super::state::{Deferred, serve_state};
use crate::Kind;
use crate::boundary::{Input, Remote, Served, no_method};
use crate::data::Batch;
use crate::message::{Message, Wire};
use crate::state::{State, Stateful};
use pipe_vocab::record::RecordValue;

const RESET: u32 = 1;
const UPDATE: u32 = 2;
const COMPUTE: u32 = 3;
const MERGES: u32 = 4;
const MERGE: u32 = 5;

/// What a metric says at the end.
#[derive(Debug, Default)]
pub struct MetricReport {
    /// Named values: those that [`crate::Component::values`] declared, then any others (per class).
    pub values: Vec<(String, f64)>,
    /// A longer text for the console and text sinks, such as the 12 COCO lines.
    pub text: Option<String>,
    /// Further records, such as images, with the tags they have below the metric's.
    pub records: Vec<(String, RecordValue)>,
}

/// Numbers computed over an evaluation: reset, updated batch by batch, computed.
pub trait Metric: Stateful {
    /// Forgets everything.
    fn reset(&mut self);

    /// Takes in one batch and what the model made of it.
    ///
    /// # Errors
    /// When a field is missing or of another shape.
    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()>;

    /// Whether it needs the model's losses; asked once, after building.
    fn needs_losses(&self) -> bool {
        false
    }

    /// Whether it uses [`crate::data::fields::IMAGE_LOSSES`], where the model gives losses and tells what they are the sums of; asked once,
    /// after building.
    fn uses_image_losses(&self) -> bool {
        false
    }

    /// Whether it can be told by [`Metric::merge`] of other data; asked once, after building. In a run of several processes an
    /// evaluation is shared among them where all of its metrics can, otherwise each process evaluates all of the data.
    fn merges(&self) -> bool {
        false
    }

    /// Adds what the same metric has come to, by its state, over other data.
    ///
    /// # Errors
    /// When the states do not fit together.
    fn merge(&mut self, _other: &State) -> Result<()> {
        bail!("this metric cannot be computed from parts of the data")
    }

    /// The values over all updates since the reset. A metric without data says NaN.
    ///
    /// # Errors
    /// When the values cannot be computed.
    fn compute(&mut self) -> Result<MetricReport>;
}

/// In a cell, so that a metric that calls itself through the program is an error and not a fault.
impl Served for RefCell<Box<dyn Metric>> {
    fn serve(&self, method: u32, mut input: Input<'_>) -> Result<Message> {
        let metric = &mut **self.try_borrow_mut()?;
        let from = &mut input.reader;
        match method {
            RESET => metric.reset(),
            UPDATE => metric.update(&Batch::unpack(from)?, &ModelOutput::unpack(from)?)?,
            COMPUTE => return Message::of(&metric.compute()?),
            MERGES => return Message::plain(&metric.merges()),
            MERGE => metric.merge(&State::unpack(from)?)?,
            other => return serve_state(metric, other, input).unwrap_or_else(|| Err(no_method(Kind::Metric, other))),
        }
        Ok(Message::default())
    }
}

/// A metric of the other side, as the program uses it.
pub struct RemoteMetric(Deferred);

impl RemoteMetric {
    pub(crate) fn new(remote: Remote) -> RemoteMetric {
        RemoteMetric(Deferred::new(remote))
    }
}

impl Stateful for RemoteMetric {
    fn state(&self) -> Result<State> {
        self.0.state()
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.0.load_state(state)
    }
}

impl Metric for RemoteMetric {
    fn reset(&mut self) {
        self.0.tell(RESET, Ok(Message::default()));
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()> {
        let mut message = Message::of(batch)?;
        output.pack(&mut message)?;
        self.0.call(UPDATE, &message).map(drop)
    }

    /// One of a plugin from before there was this question says no.
    fn merges(&self) -> bool {
        self.0.call(MERGES, &Message::default()).and_then(|said| said.reader().get()).unwrap_or(false)
    }

    fn merge(&mut self, other: &State) -> Result<()> {
        self.0.call(MERGE, &Message::of(other)?).map(drop)
    }

    fn compute(&mut self) -> Result<MetricReport> {
        MetricReport::unpack(&mut self.0.call(COMPUTE, &Message::default())?.reader())
    }
}
