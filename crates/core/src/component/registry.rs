//! The [`Component`] trait, the registration of components, and the way from a checked configuration to its component.

use std::any::Any;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use pipe_vocab::config::parse;
use pipe_vocab::{Catalog, Checked, Config, Contract, Descriptor, Problems};
use serde_json::Value;

use super::build::{BuildContext, Built};
use super::instance::Instance;

/// A component of the program: what is built of a [`Config`].
pub trait Component: Config {
    /// Makes the component. May open files and devices.
    ///
    /// # Errors
    /// What is wrong with the outside world, named for people.
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance>;
}

/// A component's configuration, its type forgotten.
pub trait Buildable {
    /// See [`Config::contract`].
    fn contract(&self) -> Contract;
    /// See [`Config::values`].
    fn values(&self) -> Vec<String>;
    /// See [`Config::check`].
    fn check(&self, problems: &mut Problems);
    /// The configuration with defaults filled in.
    fn to_json(&self) -> Value;
    /// See [`Component::build`].
    ///
    /// # Errors
    /// Those of the component.
    fn build(&self, ctx: &mut BuildContext<'_>) -> Result<Instance>;
    /// The configuration struct, for those who know its type.
    fn as_any(&self) -> &dyn Any;
}

impl<C: Component> Buildable for C {
    fn contract(&self) -> Contract {
        Config::contract(self)
    }

    fn values(&self) -> Vec<String> {
        Config::values(self)
    }

    fn check(&self, problems: &mut Problems) {
        Config::check(self, problems);
    }

    fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    fn build(&self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Component::build(self.clone(), ctx)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What plans hold: knows nothing of building, but carries what can be built.
struct Carried(Box<dyn Buildable>);

impl Checked for Carried {
    fn contract(&self) -> Contract {
        self.0.contract()
    }

    fn values(&self) -> Vec<String> {
        self.0.values()
    }

    fn check(&self, problems: &mut Problems) {
        self.0.check(problems);
    }

    fn to_json(&self) -> Value {
        self.0.to_json()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What can be built, as what plans hold.
pub fn checked(buildable: Box<dyn Buildable>) -> Box<dyn Checked> {
    Box::new(Carried(buildable))
}

/// The configuration struct of a checked component, for those who know its type.
pub fn config_of<C: Config>(checked: &dyn Checked) -> Option<&C> {
    checked.as_any().downcast_ref::<Carried>()?.0.as_any().downcast_ref()
}

/// Builds a checked component with a context that others have given.
///
/// # Errors
/// Those of the component.
pub(super) fn build_checked(checked: &dyn Checked, ctx: &mut BuildContext<'_>) -> Result<Instance> {
    let carried = checked.as_any().downcast_ref::<Carried>().context("the configuration belongs to another program")?;
    carried.0.build(ctx)
}

/// Builds a checked component.
///
/// # Errors
/// Those of the component.
pub fn build(checked: &dyn Checked, mut ctx: BuildContext<'_>) -> Result<Built> {
    let instance = build_checked(checked, &mut ctx)?;
    Ok(ctx.finish(instance))
}

/// Something to be registered: submitted by [`crate::register!`], collected by [`builtin`].
pub struct Registration(pub fn() -> Descriptor);

inventory::collect!(Registration);

/// The descriptor of a component.
pub fn descriptor_of<C: Component>() -> Descriptor {
    Descriptor::of::<C>(Box::new(|_, config| parse::<C>(config).map(|config| checked(Box::new(config)))))
}

/// The components that are compiled in, those of plugins left out.
pub fn builtin() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| {
        let all = inventory::iter::<Registration>.into_iter().map(|registration| (registration.0)());
        Catalog::of(all.map(|descriptor| &*Box::leak(Box::new(descriptor))))
    })
}

/// Registers a component: `register!(CocoConfig);` in the component's own file is all it takes.
#[macro_export]
macro_rules! register {
    ($config:ty) => {
        $crate::inventory::submit! {
            $crate::Registration(|| $crate::component::registry::descriptor_of::<$config>())
        }
    };
}
