//! What a table's values say of other nodes: ports, properties, measured values, options.

use pipe_document::PathSegment;
use pipe_document::diagnostic::Location;
use pipe_vocab::{Kind, NodeId, Target, ValueRef};

use super::message;

/// What a table's values say of other nodes.
#[derive(Debug, Clone)]
pub enum Mention {
    /// A port: the node and the kinds that fit.
    Port {
        /// The node named.
        node: NodeId,
        /// The kinds that fit.
        kinds: Vec<Kind>,
    },
    /// A property of another node, standing for a value of this type.
    Property {
        /// The node named.
        node: NodeId,
        /// The property's name.
        property: String,
        /// JSON types that the field takes.
        types: Vec<String>,
    },
    /// A measured value.
    Value(ValueRef),
    /// An option of another node that is to be driven, of a node of one of these kinds.
    Target {
        /// The option.
        target: Target,
        /// The kinds that fit.
        kinds: Vec<Kind>,
    },
}

/// A [`Mention`] and where it is written.
#[derive(Debug, Clone)]
pub struct Mentioned {
    /// What is mentioned.
    pub what: Mention,
    /// Steps from the node's table to the value.
    pub path: Vec<PathSegment>,
    /// The text of the value.
    pub location: Location,
}

/// Why a text says nothing of another node.
pub(super) struct Unread {
    pub(super) message: String,
    pub(super) help: String,
}

/// The name of a node of one of these kinds.
pub(super) fn port(text: &str, kinds: Vec<Kind>) -> Result<Mention, Unread> {
    if let Ok(node) = text.parse() {
        return Ok(Mention::Port { node, kinds });
    }
    let example = kinds.first().map_or("dataset", |kind| kind.as_str());
    let help = match kinds.as_slice() {
        [kind] if !text.contains('.') => format!("write the full name: `{kind}.{text}`"),
        _ => format!("write the full name of a node, such as `{example}.NAME`"),
    };
    Err(Unread { message: format!("`{text}` does not name {}", message::kinds(&kinds)), help })
}

/// The name of an option of a node of one of these kinds.
pub(super) fn target(text: &str, kinds: Vec<Kind>) -> Result<Mention, Unread> {
    let target = Target::parse(text).ok_or_else(|| Unread {
        message: format!("`{text}` is not the name of an option"),
        help: "write `optimizer.NAME:OPTION`, such as `optimizer.sgd:weight_decay`".into(),
    })?;
    Ok(Mention::Target { target, kinds })
}

/// The name of a measured value.
pub(super) fn measured(text: &str) -> Result<Mention, Unread> {
    let value = serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|_| Unread {
        message: format!("`{text}` is not the name of a measured value"),
        help: "write `metric.NAME:VALUE`, such as `metric.accuracy:accuracy`, or `engine.NAME:loss`".into(),
    })?;
    Ok(Mention::Value(value))
}
