//! How many samples make a batch.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Samples of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BatchSize {
    /// So many.
    Given(NonZeroUsize),
    /// What `pipe run` finds to fit into the accelerator's memory.
    Auto(Auto),
}

/// The word for a number that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// The largest that fits.
    Auto,
}

impl JsonSchema for BatchSize {
    fn schema_name() -> Cow<'static, str> {
        "BatchSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// A number, in whose place one word may stand.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "x-word": "auto" })
    }
}

impl Default for BatchSize {
    fn default() -> BatchSize {
        BatchSize::Given(NonZeroUsize::MIN)
    }
}

impl BatchSize {
    /// The number, where there is one.
    pub fn given(self) -> Option<usize> {
        match self {
            BatchSize::Given(size) => Some(size.get()),
            BatchSize::Auto(_) => None,
        }
    }

    /// The number; 1 as long as it is looked for.
    pub fn or_one(self) -> usize {
        self.given().unwrap_or(1)
    }
}
