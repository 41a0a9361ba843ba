//! The registration of components, and those that are compiled in.

use std::sync::OnceLock;

use pipe_vocab::config::parse;
use pipe_vocab::{Catalog, Descriptor};

use super::build::{Component, checked};

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
