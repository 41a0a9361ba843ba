//! What a run measures, sent to a tracker's server that may be slow or away.
//!
//! The queue is the run's own folder: a thread reads `records.jsonl` from where it had got to, which is kept in `trackers/`, and sends what
//! has come since. So nothing waits in memory, nothing is lost when the server or the run dies, and a resumed run sends what was missed.
//!
//! - [`stream`]: the records since a place, with the images that they tell of
//! - [`kept`]: how far a server has got, in the run's folder
//! - [`http`]: requests, and which failures pass
//! - [`worker`]: the thread; [`sender`]: the sink in front of it
//! - [`facts`]: what is told of a run beside its records

pub mod facts;
pub mod http;
pub mod kept;
pub mod sender;
pub mod stream;
mod worker;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use pipe_core::Problems;
use serde_json::Value;

pub use facts::Facts;
pub use http::Failure;
pub use sender::{Sender, Setting};
pub use stream::{Batch, Scalar, Shown};

/// A tracker's server, spoken to by the thread. Each request may be made again, where its answer was lost.
pub trait Server: Send {
    /// Where things go: another one than before means that all is sent there from the start.
    fn place(&self) -> String;

    /// Makes the run on the server, or goes on with the one that is `known`. What comes back is `known` from now on.
    ///
    /// # Errors
    /// What [`Failure`] says.
    fn open(&mut self, run: &Facts, known: Option<&Value>) -> Result<Value, Failure>;

    /// Takes out of the way what the server has of a `known` run, because the records that it was sent are no longer the run's. The
    /// run is opened after that, with what comes back as `known`.
    ///
    /// # Errors
    /// As [`Server::open`].
    fn retire(&mut self, run: &Facts, known: &Value) -> Result<Option<Value>, Failure>;

    /// Sends what was measured.
    ///
    /// # Errors
    /// As [`Server::open`].
    fn send(&mut self, batch: &Batch) -> Result<(), Failure>;

    /// Says how the run ended, with the files that are to be kept.
    ///
    /// # Errors
    /// As [`Server::open`].
    fn end(&mut self, run: &Facts, end: &End) -> Result<(), Failure>;
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct End {
    /// `done`, `failed` or `interrupted`.
    pub status: String,
    /// The error of one that failed.
    pub error: Option<String>,
    /// Seconds since 1970.
    pub time: f64,
}

/// Says what is wrong with the address of a server.
pub fn check_address(option: &str, address: &str, problems: &mut Problems) {
    let rest = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
    match rest {
        None | Some("") => problems.at(
            option,
            format!("`{address}` is not the address of a server"),
            "write one such as `http://127.0.0.1:5000`",
        ),
        Some(rest) if rest.split('/').next().is_some_and(|host| host.contains('@')) => problems.at(
            option,
            "a password in an address is shown and stored",
            "give it by the options that are made for it, as `\"${env:NAME}\"`",
        ),
        Some(_) => {}
    }
}

/// `Authorization` for a user with a password.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// Images are sent unless one says otherwise.
pub fn yes() -> bool {
    true
}

/// How long the end of a run waits for a server, unless one says otherwise.
pub fn patience() -> pipe_core::Duration {
    std::time::Duration::from_secs(30).into()
}
