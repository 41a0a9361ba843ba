//! Many runs: which there are, what each is and came to, and what their owners say of them. Reads run folders alone and needs no libtorch.
//!
//! - [`folders`]: the folders of runs below others; [`look`](mod@look): the runs in them; [`find`]: the one that a word means
//! - [`run`]: what is known of a run, from its folder; [`names`]: what a run is called that nobody has named
//! - [`job`]: who has a run that was submitted; [`queue`]: how it stands there
//! - [`about`]: what its owners say of it: name, tags, note, group
//! - [`index`]: all of it kept in the cache, for as long as it is true
//! - [`filter`]: which runs are meant, by an expression; [`key`]: a column of a table of runs; [`choose`](mod@choose): such a table's runs, in order
//! - [`compare`](mod@compare): what differs between runs
//! - [`trash`]: where removed runs go

pub mod about;
pub mod choose;
pub mod compare;
pub mod filter;
pub mod find;
pub mod folders;
pub mod index;
pub mod job;
pub mod key;
pub mod look;
pub mod names;
pub mod queue;
pub mod run;
pub mod trash;

pub use about::About;
pub use filter::Filter;
pub use index::Index;
pub use job::Job;
pub use key::Key;
pub use look::look;
pub use pipe_history::options;
pub use run::{At, Metric, Run};
