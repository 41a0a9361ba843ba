//! Hot reload: an edited pipeline is planned, compared with the running one, built aside and swapped in.
//!
//! | file | holds |
//! |---|---|
//! | `difference.rs` | [`difference`]: what differs between two plans |
//! | `affected.rs` | which nodes that concerns, and which of them wait for the end of the epoch |
//! | `swap.rs` | building aside, trying, putting in place |
//! | `carry.rs` | state from a node to the one that takes its place |
//! | `loads.rs` | an edit of `weights`: into the model at work |
//! | `reloader.rs` | [`Reloader`]: what a run does between two iterations when an edit has come |
//! | `together.rs` | the same on several ranks: by all or by none |
//! | `report.rs` | [`Report`]: what it says of it |
//! | `resumed.rs` | what was edited between the two lives of a run |
//! | `rehearsal.rs` | a run that is only tried, for `pipe dev` |
//! | `inbox.rs`, `watch.rs` | edits on their way from the file system, or from SIGHUP, to the training thread |
//! | `requests.rs` | what is asked by way of the run's folder, edits among it |
//! | `preview.rs` | what an edit would mean, before it is asked for |
//!
//! Tensors live on the training thread, so everything but watching happens there. The engine knows nothing of this: it calls
//! [`pipe_core::Between`] between two iterations.

pub mod affected;
pub mod carry;
pub mod difference;
pub mod inbox;
pub mod loads;
pub mod preview;
pub mod rehearsal;
pub mod reloader;
pub mod report;
pub mod requests;
pub mod resumed;
pub mod swap;
pub mod together;
pub mod watch;

pub use carry::Weights;
pub use difference::{Change, What, difference};
pub use inbox::Inbox;
pub use reloader::Reloader;
pub use report::{Meaning, Outcome, Report};
