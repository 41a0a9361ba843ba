//! Values of other nodes, taken in as they are measured.

use std::rc::Weak;

use anyhow::{Context, Result};

use pipe_core::{BuildContext, MetricReport, NodeId, RunContext, ValueRef};
use pipe_data::Batch;

/// A metric made of other nodes' values: where it reads them, and under which tag it records its own.
pub struct Watched {
    node: NodeId,
    run: Weak<RunContext>,
    /// The tag instead of `<node>/<value>`.
    tag: Option<String>,
}

/// A measured value, and whether that was at the present step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The latest value.
    pub value: f64,
    /// The step at which it was measured.
    pub step: u64,
    /// Whether that is the run's present step.
    pub now: bool,
}

impl Watched {
    /// For the node that is being built.
    pub fn new(ctx: &BuildContext<'_>, tag: Option<String>) -> Watched {
        Watched { node: ctx.node.clone(), run: ctx.run(), tag }
    }

    /// The latest measurement of a value; `None` before the first.
    ///
    /// # Errors
    /// When the run is over.
    pub fn latest(&self, value: &ValueRef) -> Result<Option<Measured>> {
        let run = self.run.upgrade().context("the run is over")?;
        let now = run.clock.get().step;
        Ok(run.value_with_step(value).map(|(value, step)| Measured { value, step, now: step == now }))
    }

    /// How many samples the batch has on all ranks together.
    ///
    /// # Errors
    /// When the run is over.
    pub fn samples(&self, batch: &Batch) -> Result<usize> {
        Ok(self.run.upgrade().context("the run is over")?.ranks.whole(batch.size))
    }

    /// What the metric reports; with a tag of its own the value is recorded and remembered here.
    ///
    /// # Errors
    /// When a sink cannot take it.
    pub fn report(&self, name: &str, value: f64) -> Result<MetricReport> {
        let Some(tag) = &self.tag else {
            return Ok(MetricReport { values: vec![(name.to_owned(), value)], ..MetricReport::default() });
        };
        let run = self.run.upgrade().context("the run is over")?;
        run.set_value(&self.node, name, value);
        run.scalar(&self.node, tag, value)?;
        Ok(MetricReport::default())
    }
}
