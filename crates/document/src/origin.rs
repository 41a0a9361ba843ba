//! Where a value came from.

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Location, SourceId, Sources};

/// The layer of the merge that a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The file that was named.
    File,
    /// A file reached through `extends`.
    Parent,
    /// `[profile.NAME]`, in the file or in a parent.
    Profile(Arc<str>),
    /// `--set` on the command line.
    Set,
}

/// Something a string was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ingredient {
    /// `${name}`.
    Variable {
        /// The name in `[vars]`.
        name: String,
        /// Where its value is written.
        location: Location,
        /// The layer that its value came from.
        layer: Layer,
    },
    /// `${env:NAME}`, where the environment had a value.
    Environment {
        /// The name of the environment variable.
        name: String,
    },
    /// `${env:NAME:-default}`, where the environment had none.
    Default {
        /// The name of the environment variable.
        name: String,
    },
}

/// The folder that a relative path starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathBase {
    /// The folder of a file; the working directory for a `--set`.
    Source(SourceId),
    /// The working directory: values of the environment.
    WorkingDirectory,
}

/// Where a value came from: its layer, what it was made of, whether it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The layer that wrote the value.
    pub layer: Layer,
    /// Variables and environment that a string was made of, in order of use; empty for a plain value.
    pub ingredients: Vec<Ingredient>,
    /// Whether the value is a secret from the environment, masked wherever the tree is shown.
    pub secret: bool,
    /// The folder that the value starts from, should it be a relative path.
    pub base: PathBase,
}

impl Origin {
    /// The origin of a value that stands in `source` as it is.
    pub fn plain(layer: Layer, source: SourceId) -> Self {
        Self { layer, ingredients: Vec::new(), secret: false, base: PathBase::Source(source) }
    }

    /// Adds to a diagnostic where the variables behind the value are defined.
    pub fn annotate(&self, diagnostic: Diagnostic) -> Diagnostic {
        self.ingredients.iter().fold(diagnostic, |diagnostic, ingredient| match ingredient {
            Ingredient::Variable { name, location, .. } => {
                diagnostic.label(location.clone(), format!("`{name}` is defined here"))
            }
            Ingredient::Environment { .. } | Ingredient::Default { .. } => diagnostic,
        })
    }

    /// A few words such as `maskrcnn.toml:12, profile demo, ${coco} from maskrcnn.toml:9`.
    ///
    /// `location` is that of the value.
    pub fn describe(&self, location: &Location, sources: &Sources) -> String {
        let mut words = place(location, &self.layer, sources);
        for ingredient in &self.ingredients {
            words.push_str(", ");
            words.push_str(&match ingredient {
                Ingredient::Variable { name, location, layer } => {
                    format!("${{{name}}} from {}", place(location, layer, sources))
                }
                Ingredient::Environment { name } => format!("{name} from the environment"),
                Ingredient::Default { name } => format!("default of {name}"),
            });
        }
        words
    }
}

/// Where a layer wrote something: `p.toml:12 profile demo`, `--set`.
pub(super) fn place(location: &Location, layer: &Layer, sources: &Sources) -> String {
    let name = sources.name(location.source);
    let line = sources.position(location).line;
    match layer {
        Layer::File | Layer::Parent => format!("{name}:{line}"),
        Layer::Profile(profile) => format!("{name}:{line} profile {profile}"),
        Layer::Set => "--set".to_owned(),
    }
}
