//! Many runs: which there are, what each is and came to, and what their owners say of them. Reads run folders alone and needs no libtorch.
//!
//! - [`find`](mod@find): the folders of runs below others, and the one that a word means
//! - [`run`]: what is known of a run, from its folder; [`options`]: its pipeline, key by key; [`names`]: what a run is called that nobody has named
//! - [`about`]: what its owners say of it: name, tags, note, group
//! - [`index`]: all of it kept in the cache, for as long as it is true
//! - [`filter`]: which runs are meant, by an expression; [`key`]: a column of a table of runs
//! - [`compare`](mod@compare): what differs between runs
//! - [`trash`]: where removed runs go

pub mod about;
pub mod compare;
pub mod filter;
pub mod find;
pub mod index;
pub mod key;
pub mod names;
pub mod options;
pub mod run;
pub mod trash;

pub use about::About;
pub use filter::Filter;
pub use index::Index;
pub use key::Key;
pub use run::{At, Metric, Run};

use std::path::PathBuf;

use anyhow::Result;

/// The runs below these folders, the newest first.
///
/// # Errors
/// When a folder is not there.
pub fn look(roots: &[PathBuf]) -> Result<Vec<Run>> {
    let folders = find::folders(roots)?;
    let mut runs = Index::open().look(&folders);
    runs.sort_by(|a, b| b.created.total_cmp(&a.created).then_with(|| b.folder.cmp(&a.folder)));
    names::make_unique(&mut runs);
    Ok(runs)
}
