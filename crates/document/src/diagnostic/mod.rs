//! Diagnostics: what is wrong with a pipeline, where, and what to do about it.
//!
//! | file | holds |
//! |---|---|
//! | `report.rs` | [`Diagnostic`]: one finding, as data |
//! | `sources.rs` | [`Sources`], [`Location`]: the texts that findings point into |
//! | `collection.rs` | [`Diagnostics`]: many findings, ordered by file and position |
//! | `render.rs` | the two ways they are shown: text for people, JSON for tools |
//! | `plain.rs` | [`plain`]: errors without libtorch's backtraces |
//! | `suggest.rs` | [`suggest`]: the nearest known name to a misspelt one |
//!
//! A phase never prints: it returns [`Diagnostics`], and the command that asked decides how to show them.

mod collection;
mod plain;
mod render;
mod report;
mod sources;
mod suggest;

pub use collection::Diagnostics;
pub use plain::plain;
pub use report::{Diagnostic, Severity};
pub use sources::{Location, Position, SourceId, SourceKind, Sources};
pub use suggest::suggest;
