//! From text to a resolved tree: parents, profile, overrides and variables applied, every value knowing where it came from.
//!
//! | file | holds |
//! |---|---|
//! | `node.rs` | [`Node`], [`Value`], [`Table`]: the tree |
//! | `origin.rs` | [`Origin`]: the layer a value came from, the variables it was made of |
//! | `parse.rs` | TOML text to a tree, with every error in it |
//! | `segments.rs`, `offset.rs` | where a broken file may be cut; places inside strings |
//! | `syntax.rs` | errors of syntax in words for people |
//! | `build.rs` | the rules of tables, dotted keys and duplicates |
//! | `limits.rs` | how much of a file is read |
//! | `document.rs` | [`Document`]: the pipeline with everything applied |
//! | `load.rs` | [`Document::load`]: files and their parents, profile, `--set` |
//! | `merge.rs`, `edges.rs` | the one merge rule; event edges by their names |
//! | `unset.rs` | what a layer takes away |
//! | `overrides.rs` | [`Retyped`]: what merging did that the result does not show |
//! | `unused.rs` | variables that nothing uses |
//! | `template.rs` | the grammar of `${name}` and `${env:NAME:-default}` in a string |
//! | `vars.rs` | variables put into the tree |
//! | `show.rs` | the resolved pipeline as TOML, with origins or without |
//! | `pointer.rs` | [`PathSegment`]: places in the tree, and what they are in the file |
//! | `path_value.rs` | paths, which count from the file that wrote them |
//! | `diagnostic` | what is wrong with a pipeline, for people and machines |
//!
//! Loading is pure but for the two functions of [`LoadOptions`] that read files and the environment.

mod build;
pub mod diagnostic;
mod document;
mod edges;
mod limits;
mod load;
mod merge;
mod node;
mod offset;
mod origin;
mod overrides;
mod parse;
mod path_value;
mod pointer;
mod segments;
mod show;
mod syntax;
mod template;
mod unset;
mod unused;
mod vars;

pub use document::Document;
pub use load::{LoadOptions, read_file};
pub use node::{Entry, Node, Table, Value};
pub use origin::{Ingredient, Layer, Origin, PathBase};
pub use overrides::Retyped;
pub use pointer::{KeyOrValue, PathSegment, path_text};
