//! From a configuration to a built node.
//!
//! - [`build`]: the [`Component`](build::Component) trait, what a component may use while it is built, what comes of it
//! - [`registry`]: registration, the components that are compiled in
//! - [`instance`]: a built node, whatever its kind
//! - [`port`]: option types that name other nodes or hold components in place

pub mod build;
pub mod instance;
pub mod port;
pub mod registry;
