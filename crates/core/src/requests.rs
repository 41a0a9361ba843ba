//! What a run is asked from outside while it is at work.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a run is asked by signals or from another thread. Clones are the same requests.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    /// Finish the step, write a checkpoint, end.
    pub interrupt: Arc<AtomicBool>,
    /// Write a checkpoint after the step and go on; whoever writes it takes the request back.
    pub checkpoint: Arc<AtomicBool>,
}
