//! The kinds of components: each file holds the trait that an author writes, and how its calls cross the border.

pub(crate) mod dataset;
pub(crate) mod handler;
pub(crate) mod metric;
pub(crate) mod model;
pub(crate) mod optimizer;
pub(crate) mod scheduler;
pub(crate) mod sink;
pub(crate) mod state;
pub(crate) mod transform;
