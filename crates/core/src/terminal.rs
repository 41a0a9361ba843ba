//! Standard error, shared by progress bars and everything else that is said there.

use std::io::{self, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use pipe_vocab::shown::{shown, shown_data, shown_styled};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// The bars of this process. Lines go above them.
pub fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Prints a line on standard error, above the bars, without characters that steer a terminal.
pub fn line(text: &str) {
    write(&shown(text));
}

fn write(text: &str) {
    bars().suspend(|| eprintln!("{text}"));
}

/// Prints a line of JSON as the log's are: `timestamp`, `level`, `fields`.
pub fn json_line(level: &str, fields: serde_json::Value) {
    let mut timestamp = String::new();
    // Writing into a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    write(&shown_data(&serde_json::json!({ "timestamp": timestamp, "level": level, "fields": fields }).to_string()));
}

/// Columns of the terminal.
pub fn width() -> usize {
    console::Term::stderr().size().1.into()
}

/// Where the log goes: standard error, above the bars.
#[derive(Debug, Clone, Copy)]
pub struct Log;

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        Log
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The logger writes whole lines, with its own colours.
        let text = String::from_utf8_lossy(bytes);
        bars().suspend(|| io::stderr().write_all(shown_styled(&text).as_bytes()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
