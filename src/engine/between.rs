//! What may act between iterations: the one place where pieces of a run are exchanged.

use crate::registry::NodeId;
use crate::run::RunContext;

/// Where a run stands between two pieces of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// Between two iterations of the outermost engine.
    Iteration,
    /// After an epoch of the outermost engine, its events included.
    Epoch,
    /// Between two iterations that must not be parted: of an engine that another one's event runs, or while gradients wait
    /// for the optimizer's step. Time to read an edit, not to apply it.
    Inner,
}

/// Acts between the iterations and epochs of engines. It cannot fail: what it cannot do it leaves as it was, and says so.
pub trait Between {
    /// Called by `engine`, which holds nothing borrowed meanwhile.
    fn between(&self, run: &RunContext, engine: &NodeId, boundary: Boundary);
}
