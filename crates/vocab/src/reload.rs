//! What a changed option means to a running pipeline.

use std::fmt;

use serde::Serialize;
use serde_json::Value as Json;

/// What a changed option means to a running pipeline.
///
/// An option says it in its schema: `#[schemars(extend("x-reload" = "hot"))]` on the field. Without the mark it is
/// [`Reload::Rebuild`], which is always right, if not always gentle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reload {
    /// Holds from the next iteration on; the node keeps its state.
    Hot,
    /// The node is rebuilt: a model keeps the weights that match, data change at the next epoch.
    Rebuild,
    /// Cannot change in a running process; the edit is refused.
    Fixed,
}

impl Reload {
    /// All of them, the gentlest first.
    pub const ALL: [Reload; 3] = [Reload::Hot, Reload::Rebuild, Reload::Fixed];

    /// As it is written in a schema.
    pub fn as_str(self) -> &'static str {
        match self {
            Reload::Hot => "hot",
            Reload::Rebuild => "rebuild",
            Reload::Fixed => "fixed",
        }
    }

    /// The mark of one option in the schema of a table.
    pub fn of_option(schema: &Json, option: &str) -> Reload {
        let mark = schema.get("properties").and_then(|all| all.get(option)).and_then(|one| one.get("x-reload"));
        let mark = mark.and_then(Json::as_str);
        Reload::ALL.into_iter().find(|class| Some(class.as_str()) == mark).unwrap_or(Reload::Rebuild)
    }
}

/// Whether an edit of one option is to be tried on a batch before it holds: any that is not hot, and hot ones that say so by
/// `#[schemars(extend("x-tried" = true))]` because a batch may stumble over their value.
pub fn is_tried(schema: &Json, option: &str) -> bool {
    let property = schema.get("properties").and_then(|all| all.get(option));
    let marked = property.and_then(|one| one.get("x-tried")).and_then(Json::as_bool).unwrap_or(false);
    marked || Reload::of_option(schema, option) != Reload::Hot
}

impl fmt::Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
