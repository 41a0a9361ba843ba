//! What a component is: one documented configuration struct, from which everything users see is derived.

use std::any::Any;
use std::sync::OnceLock;

use anyhow::Result;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use pipe_plugin::component::{ConfigError, Problem, Problems};

use super::contract::{Contract, Event, Property};
use super::kind::Kind;
use super::plugins::{Description, PluginComponent};
use crate::run::{BuildContext, Instance};

/// A component: the configuration struct of one `type` of one kind.
///
/// The struct derives `Serialize`, `Deserialize` (with `deny_unknown_fields`) and `JsonSchema`; its doc comment is the
/// component's documentation, the first paragraph being the summary; the doc comments of its fields document the options.
/// Field types from [`super::port`] make ports.
pub trait Component: DeserializeOwned + Serialize + JsonSchema + 'static {
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

    /// Checks beyond types and ranges, such as two options that exclude each other. Pure: no disk, no device.
    fn check(&self, _problems: &mut Problems) {}

    /// Makes the component. May open files and devices.
    ///
    /// # Errors
    /// What is wrong with the outside world, named for people.
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance>;
}

/// A checked configuration whose type is forgotten: what a plan holds.
pub trait ErasedComponent {
    /// See [`Component::contract`].
    fn contract(&self) -> Contract;
    /// See [`Component::values`].
    fn values(&self) -> Vec<String>;
    /// See [`Component::check`].
    fn check(&self, problems: &mut Problems);
    /// See [`Component::build`].
    ///
    /// # Errors
    /// Those of the component.
    fn build(self: Box<Self>, ctx: &mut BuildContext<'_>) -> Result<Instance>;
    /// The configuration with defaults filled in.
    fn to_json(&self) -> Value;
    /// The configuration struct, for those who know its type.
    fn as_any(&self) -> &dyn Any;
}

impl<C: Component> ErasedComponent for C {
    fn contract(&self) -> Contract {
        Component::contract(self)
    }

    fn values(&self) -> Vec<String> {
        Component::values(self)
    }

    fn check(&self, problems: &mut Problems) {
        Component::check(self, problems);
    }

    fn build(self: Box<Self>, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Component::build(*self, ctx)
    }

    fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

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
    schema_cell: OnceLock<Value>,
    source: Source,
}

/// Where a component comes from.
enum Source {
    /// This program.
    Program { schema: fn() -> Value, parse: fn(Value) -> Result<Box<dyn ErasedComponent>, ConfigError> },
    /// A plugin, compiled in or loaded.
    Plugin(PluginComponent),
}

impl Descriptor {
    /// The descriptor of a component.
    pub const fn of<C: Component>(properties: &'static [Property], events: &'static [Event]) -> Descriptor {
        Descriptor {
            kind: C::KIND,
            name: C::TYPE,
            example: C::EXAMPLE,
            properties,
            events,
            schema_cell: OnceLock::new(),
            source: Source::Program { schema: schema_of::<C>, parse: parse::<C> },
        }
    }

    /// The descriptor of a plugin's component. It lives as long as the program: plans point to it, and libraries are never
    /// closed.
    pub(super) fn of_plugin(description: Description, component: PluginComponent) -> &'static Descriptor {
        let text = |text: String| -> &'static str { text.leak() };
        let properties = description.properties.into_iter();
        let properties: Vec<Property> =
            properties.map(|(name, ty, doc)| Property { name: text(name), ty, doc: text(doc) }).collect();
        Box::leak(Box::new(Descriptor {
            kind: description.kind,
            name: text(description.name),
            example: text(description.example),
            properties: properties.leak(),
            events: &[],
            schema_cell: OnceLock::from(description.schema),
            source: Source::Plugin(component),
        }))
    }

    /// The plugin that it comes from.
    pub fn plugin(&self) -> Option<&PluginComponent> {
        match &self.source {
            Source::Program { .. } => None,
            Source::Plugin(component) => Some(component),
        }
    }

    /// The configuration's JSON schema (draft 07, references inlined where they do not recur), without `type`.
    pub fn schema(&self) -> &Value {
        self.schema_cell.get_or_init(|| match &self.source {
            Source::Program { schema, .. } => schema(),
            // Given with the descriptor.
            Source::Plugin(_) => Value::Null,
        })
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
    pub fn parse(&self, config: Value) -> Result<Box<dyn ErasedComponent>, ConfigError> {
        match &self.source {
            Source::Program { parse, .. } => parse(config),
            Source::Plugin(component) => component.parse(self.schema(), config),
        }
    }
}

/// The JSON schema of a type, references inlined.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn parse<C: Component>(config: Value) -> Result<Box<dyn ErasedComponent>, ConfigError> {
    match serde_path_to_error::deserialize::<_, C>(config) {
        Ok(component) => Ok(Box::new(component)),
        Err(error) => {
            let path = error.path().iter().map(|segment| segment.to_string());
            let path = path.filter(|segment| segment != "?").collect();
            Err(ConfigError { path, message: error.inner().to_string() })
        }
    }
}

/// Something to be registered: submitted by [`crate::register!`], collected by [`super::Registry`].
pub struct Registration(pub fn() -> Descriptor);

inventory::collect!(Registration);

/// Registers a component: `register!(CocoConfig);` in the component's own file is all it takes.
#[macro_export]
macro_rules! register {
    ($config:ty) => {
        ::inventory::submit! {
            $crate::registry::Registration(|| {
                $crate::registry::Descriptor::of::<$config>(
                    <$config as $crate::registry::Component>::properties(),
                    <$config as $crate::registry::Component>::events(),
                )
            })
        }
    };
}
