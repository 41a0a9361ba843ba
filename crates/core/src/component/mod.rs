//! From a configuration to a built node.
//!
//! - [`registry`]: the [`Component`](registry::Component) trait, registration, the components that are compiled in
//! - [`build`]: what a component may use while it is built, and what comes of it
//! - [`instance`]: a built node, whatever its kind
//! - [`port`]: option types that name other nodes or hold components in place

pub mod build;
pub mod instance;
pub mod port;
pub mod registry;
