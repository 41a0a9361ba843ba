//! How commands answer: the format of their output, the exit status, errors as text.

use std::io::Write;

use anyhow::Result;
use clap::ValueEnum;
use pipe_vocab::shown::shown_data;

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For tools.
    Json,
}

/// How a command ended, as an exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 0.
    Done,
    /// 1.
    Failed,
    /// 2.
    Wrong,
    /// 128 and the number of the signal that ended it.
    Signalled(u8),
}

impl Status {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::Failed => 1,
            Status::Wrong => 2,
            Status::Signalled(status) => status,
        }
    }
}

/// An error with its causes, one per line.
pub fn error_text(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  because: {cause}"));
    }
    pipe_document::diagnostic::plain(&text)
}

/// Says something to people, on standard error: as `eprintln!`, without characters that steer a terminal.
macro_rules! say {
    ($($part:tt)*) => { pipe_core::terminal::line(&format!($($part)*)) };
}
pub(crate) use say;

/// Prints to standard output, without characters that steer a terminal; a closed reader (`| head`) is not an error.
pub fn print(text: &str) -> Result<Status> {
    // As JSON and TOML write them: much of what is printed is read by tools.
    match std::io::stdout().write_all(shown_data(text).as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Status::Done),
    }
}
