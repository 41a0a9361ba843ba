//! Kinds of nodes and the names of nodes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a node is; the first part of its table's name (`[kind.name]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Indexed samples.
    Dataset,
    /// A function from sample to sample.
    Transform,
    /// Batches out of a dataset and a transform.
    Loader,
    /// Losses in training, outputs in evaluation.
    Model,
    /// Updates a model's parameters from their gradients.
    Optimizer,
    /// Changes an optimizer's learning rate over time.
    Scheduler,
    /// Numbers computed over an evaluation.
    Metric,
    /// A loop over data that fires events.
    Engine,
    /// Called on events.
    Handler,
    /// Consumes records.
    Sink,
}

impl Kind {
    /// All kinds, in the order in which people read a pipeline.
    pub const ALL: [Kind; 10] = [
        Kind::Dataset,
        Kind::Transform,
        Kind::Loader,
        Kind::Model,
        Kind::Optimizer,
        Kind::Scheduler,
        Kind::Metric,
        Kind::Engine,
        Kind::Handler,
        Kind::Sink,
    ];

    /// The kind's name in a pipeline file.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Dataset => "dataset",
            Kind::Transform => "transform",
            Kind::Loader => "loader",
            Kind::Model => "model",
            Kind::Optimizer => "optimizer",
            Kind::Scheduler => "scheduler",
            Kind::Metric => "metric",
            Kind::Engine => "engine",
            Kind::Handler => "handler",
            Kind::Sink => "sink",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The name with its article, for sentences: "an engine".
    pub fn with_article(self) -> String {
        let article = match self {
            Kind::Optimizer | Kind::Engine => "an",
            _ => "a",
        };
        format!("{article} {self}")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The full name of a node, `kind.name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    /// What the node is.
    pub kind: Kind,
    /// Its own name within the kind.
    pub name: Arc<str>,
}

impl NodeId {
    /// The node `kind.name`.
    pub fn new(kind: Kind, name: impl Into<Arc<str>>) -> Self {
        NodeId { kind, name: name.into() }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.name)
    }
}

/// Why a text is not the name of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotANode(pub String);

impl fmt::Display for NotANode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not the full name of a node; write `kind.name`, such as `dataset.train`", self.0)
    }
}

impl std::error::Error for NotANode {}

impl FromStr for NodeId {
    type Err = NotANode;

    fn from_str(text: &str) -> Result<Self, NotANode> {
        let (kind, name) = text.split_once('.').ok_or_else(|| NotANode(text.into()))?;
        let kind = Kind::parse(kind).ok_or_else(|| NotANode(text.into()))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(NotANode(text.into()));
        }
        Ok(NodeId::new(kind, name))
    }
}

impl Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
