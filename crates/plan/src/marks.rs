//! What components know of values and the document does not.

use pipe_document::{PathSegment, Value};
use pipe_vocab::NodeId;

/// Values by the steps from the document's root.
#[derive(Debug, Default)]
pub struct Marks {
    /// Values that must never be shown.
    pub secrets: Vec<Vec<PathSegment>>,
    /// Texts of the environment where a number or a boolean is wanted, and what they are there.
    pub typed: Vec<(Vec<PathSegment>, Value)>,
    /// Keys of nodes that do not count since `type` alone was overridden.
    pub dropped: Vec<(NodeId, String)>,
}
