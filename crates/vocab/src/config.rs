//! What a component is described by: one documented configuration struct.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::{Contract, Event, Property};
use crate::facts::Facts;
use crate::kind::Kind;

/// The configuration struct of one `type` of one kind, from which everything users see of a component is derived.
///
/// The struct derives `Serialize`, `Deserialize` (with `deny_unknown_fields`, or, where it flattens shared options, with
/// `additionalProperties` false in its schema) and `JsonSchema`; its doc comment is the
/// component's documentation, the first paragraph being the summary; the doc comments of its fields document the options.
/// What is built of it is said by the `Component` trait of the program or of plugins.
pub trait Config: Clone + DeserializeOwned + Serialize + JsonSchema + 'static {
    /// What kind of node it makes.
    const KIND: Kind;
    /// The value of `type`.
    const TYPE: &'static str;
    /// A pipeline excerpt that shows it in use: TOML with the nodes it refers to. Checked by a test.
    const EXAMPLE: &'static str;

    /// Properties that other nodes may read.
    fn properties() -> &'static [Property] {
        &[]
    }

    /// Events it fires.
    fn events() -> &'static [Event] {
        &[]
    }

    /// The fields it reads and writes.
    fn contract(&self) -> Contract {
        Contract::default()
    }

    /// Names of the values it produces (`AP`, `accuracy`), which a `monitor` may name.
    fn values(&self) -> Vec<String> {
        Vec::new()
    }

    /// What its options mean, for the rules of `pipe check`. Pure: no disk, no device.
    fn facts(&self) -> Facts {
        Facts::default()
    }

    /// Checks beyond types and ranges, such as two options that exclude each other. Pure: no disk, no device.
    fn check(&self, _problems: &mut Problems) {}
}

/// What [`Config::check`] finds: messages, each at an option of the node.
#[derive(Debug, Default)]
pub struct Problems {
    /// The path of the option (`["best", "mode"]`), the message, and what to do.
    pub found: Vec<Problem>,
}

/// One finding of [`Config::check`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// Keys from the node down to the option.
    pub path: Vec<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Problems {
    /// Says that the option at `path` (keys joined by dots) is wrong.
    pub fn at(&mut self, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let path = path.split('.').filter(|key| !key.is_empty()).map(str::to_owned).collect();
        self.found.push(Problem { path, message: message.into(), help: Some(help.into()) });
    }
}

/// Why a table is not a valid configuration: where and what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConfigError {
    /// Keys and indices from the node down to the value.
    pub path: Vec<String>,
    /// What is wrong with it.
    pub message: String,
}

/// Reads a configuration (without its `type`).
///
/// # Errors
/// The first thing that does not fit the struct, with its path.
pub fn parse<C: Config>(config: Value) -> Result<C, ConfigError> {
    serde_path_to_error::deserialize::<_, C>(config).map_err(|error| {
        let path = error.path().iter().map(|segment| segment.to_string()).filter(|segment| segment != "?").collect();
        ConfigError { path, message: error.inner().to_string() }
    })
}

/// The JSON schema of a type (draft 07), references inlined where they do not recur.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}
