//! How commands answer: the format of their output, the exit status, errors as text.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
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
    /// That of another process, which did the work.
    Other(u8),
}

impl Status {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::Failed => 1,
            Status::Wrong => 2,
            Status::Signalled(status) | Status::Other(status) => status,
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

/// Refuses a file for results that holds something else: results of before, a list, may be replaced; a pipeline, annotations or
/// weights may not.
///
/// # Errors
/// Such a file, or a folder.
pub fn refuse_foreign(out: &Path) -> Result<()> {
    refuse_other(out, &["[{", "[]"], "file of results")
}

/// Refuses a path where something lies that is not a file which begins with one of these pairs of characters, or an empty one.
///
/// # Errors
/// Such a file, or a folder.
pub fn refuse_other(out: &Path, begins: &[&str], what: &str) -> Result<()> {
    ensure!(!out.is_dir(), "{} is a folder; a {what} is to be written", out.display());
    let there = if out.is_file() { beginning(out)? } else { String::new() };
    ensure!(
        there.is_empty() || begins.contains(&there.as_str()),
        "{} exists and is no {what}: choose another, or remove it",
        out.display()
    );
    Ok(())
}

/// The first two characters of a file that are no space.
fn beginning(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let bytes = std::io::BufReader::new(file).bytes().map_while(Result::ok);
    Ok(bytes.filter(|byte| !byte.is_ascii_whitespace()).take(2).map(char::from).collect())
}

/// Prints to standard output, without characters that steer a terminal; a closed reader (`| head`) is not an error.
pub fn print(text: &str) -> Result<Status> {
    // As JSON and TOML write them: much of what is printed is read by tools.
    match std::io::stdout().write_all(shown_data(text).as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Status::Done),
    }
}
