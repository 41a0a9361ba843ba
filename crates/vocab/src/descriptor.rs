//! A registered component as the plan sees it: its description, and how a table becomes its configuration.

use std::any::Any;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::Value;

use crate::config::{Config, ConfigError, Problems, schema_of};
use crate::contract::{Contract, Event, Property};
use crate::facts::Facts;
use crate::kind::Kind;

/// A checked configuration whose type is forgotten: what a plan holds, and what is built.
pub trait Checked: 'static {
    /// See [`Config::contract`].
    fn contract(&self) -> Contract;
    /// See [`Config::values`].
    fn values(&self) -> Vec<String>;
    /// See [`Config::facts`].
    fn facts(&self) -> Facts;
    /// See [`Config::check`].
    fn check(&self, problems: &mut Problems);
    /// The configuration with defaults filled in.
    fn to_json(&self) -> Value;
    /// The value itself, for those who build it.
    fn as_any(&self) -> &dyn Any;
}

/// Where a plugin's component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginInfo {
    /// The plugin's crate.
    pub name: String,
    /// The version of the plugin's crate.
    pub version: String,
    /// The file that it was loaded from; none when it is compiled in.
    pub library: Option<PathBuf>,
}

/// Reads a configuration (without its `type`); the schema is the component's own.
pub type Parse = Box<dyn Fn(&Value, Value) -> Result<Box<dyn Checked>, ConfigError> + Send + Sync>;

/// A registered component, its type forgotten.
pub struct Descriptor {
    /// What kind of node it makes.
    pub kind: Kind,
    /// The value of `type`.
    pub name: &'static str,
    /// A pipeline excerpt that shows it in use.
    pub example: &'static str,
    /// Properties that other nodes may read.
    pub properties: &'static [Property],
    /// Events it fires.
    pub events: &'static [Event],
    /// The plugin that it comes from; none for the program's own.
    pub plugin: Option<PluginInfo>,
    schema: OnceLock<Value>,
    make_schema: fn() -> Value,
    parse: Parse,
}

impl Descriptor {
    /// The descriptor of one of the program's own components.
    pub fn of<C: Config>(parse: Parse) -> Descriptor {
        Descriptor {
            kind: C::KIND,
            name: C::TYPE,
            example: C::EXAMPLE,
            properties: C::properties(),
            events: C::events(),
            plugin: None,
            schema: OnceLock::new(),
            make_schema: schema_of::<C>,
            parse,
        }
    }

    /// The descriptor of a plugin's component, described by its plugin.
    pub fn of_plugin(
        (kind, name, example): (Kind, &'static str, &'static str),
        properties: &'static [Property],
        plugin: PluginInfo,
        schema: Value,
        parse: Parse,
    ) -> Descriptor {
        let (schema, make_schema) = (OnceLock::from(schema), || Value::Null);
        Descriptor { kind, name, example, properties, events: &[], plugin: Some(plugin), schema, make_schema, parse }
    }

    /// The configuration's JSON schema (draft 07, references inlined where they do not recur), without `type`.
    pub fn schema(&self) -> &Value {
        self.schema.get_or_init(self.make_schema)
    }

    /// The first paragraph of the documentation.
    pub fn summary(&self) -> &str {
        self.documentation().split("\n\n").next().unwrap_or_default()
    }

    /// The documentation in Markdown.
    pub fn documentation(&self) -> &str {
        self.schema().get("description").and_then(Value::as_str).unwrap_or_default()
    }

    /// `kind.type`, the name in `pipe components`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.kind, self.name)
    }

    /// Reads a configuration (without its `type`).
    ///
    /// # Errors
    /// The first thing that does not fit the struct, with its path.
    pub fn parse(&self, config: Value) -> Result<Box<dyn Checked>, ConfigError> {
        (self.parse)(self.schema(), config)
    }
}
