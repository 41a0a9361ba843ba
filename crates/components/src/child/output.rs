//! A child's output: answers on standard output, and lines for people on both outputs, shown in the log.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};
use serde_json::Value;

/// Maximum bytes of one line; longer lines are truncated.
const LINE_LIMIT: usize = 1 << 16;
/// Maximum characters of a line that are shown.
const SHOWN: usize = 500;
/// Lines shown per second; a child that writes endlessly must not flood the log.
const LINES_A_SECOND: u32 = 50;

/// Reads a child's output until it is closed. Runs in its own thread, so that a child that writes never blocks on us.
pub(super) fn read(node: &str, output: impl Read, stderr: bool, answers: Option<Sender<Value>>) {
    let mut output = BufReader::new(output);
    let mut limit = Limit::new();
    while let Some(line) = next_line(&mut output) {
        let text = String::from_utf8_lossy(&line);
        let message = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
        let kind = message.as_ref().and_then(|message| message.get("type")).and_then(Value::as_str);
        match (kind, message.as_ref(), &answers) {
            (Some("answer"), Some(message), Some(answers)) => {
                // Full: nobody waits for so many; full of old ones they are read off before the next is waited for.
                if let Err(TrySendError::Disconnected(_)) = answers.try_send(message.clone()) {
                    return;
                }
            }
            (Some("log"), Some(message), _) => {
                let text = message.get("message").and_then(Value::as_str).unwrap_or_default();
                limit.show(node, text, message.get("level").and_then(Value::as_str).unwrap_or("info"));
            }
            _ => limit.show(node, text.trim_end(), if stderr { "warn" } else { "info" }),
        }
    }
    limit.report_hidden(node);
}

/// The next line, at most [`LINE_LIMIT`] bytes of it; nothing at the end.
fn next_line(output: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let mut any = false;
    loop {
        let available = match output.fill_buf() {
            Ok([]) => return any.then_some(line),
            Ok(available) => available,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return any.then_some(line),
        };
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        let room = LINE_LIMIT.saturating_sub(line.len());
        line.extend_from_slice(&available[..taken.min(room)]);
        output.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Some(line);
        }
    }
}

/// Passes a limited number of lines per second and counts the rest.
struct Limit {
    since: Instant,
    shown: u32,
    hidden: u64,
}

impl Limit {
    fn new() -> Limit {
        Limit { since: Instant::now(), shown: 0, hidden: 0 }
    }

    fn show(&mut self, node: &str, text: &str, level: &str) {
        if self.since.elapsed() > Duration::from_secs(1) {
            self.report_hidden(node);
            *self = Limit::new();
        }
        if self.shown >= LINES_A_SECOND {
            self.hidden += 1;
            return;
        }
        self.shown += 1;
        let text = printable(text);
        match level {
            "error" => tracing::error!("{node}: {text}"),
            "warn" | "warning" => tracing::warn!("{node}: {text}"),
            "debug" | "trace" => tracing::debug!("{node}: {text}"),
            _ => tracing::info!("{node}: {text}"),
        }
    }

    fn report_hidden(&self, node: &str) {
        if self.hidden > 0 {
            tracing::warn!("{node}: {} more lines of the child are not shown", self.hidden);
        }
    }
}

/// A line that is safe for a terminal: no control characters, not too long.
fn printable(text: &str) -> String {
    let mut shown: String =
        text.chars().take(SHOWN).map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_made_harmless() {
        let long = [&vec![b'x'; LINE_LIMIT + 10][..], b"\nnext\nlast"].concat();
        let mut output = BufReader::with_capacity(1000, &long[..]);
        assert_eq!(next_line(&mut output).unwrap().len(), LINE_LIMIT);
        assert_eq!(next_line(&mut output).unwrap(), b"next");
        assert_eq!(next_line(&mut output).unwrap(), b"last");
        assert_eq!(next_line(&mut output), None);
        assert_eq!(printable("a\u{1b}[31mb\tc"), "a\u{fffd}[31mb\tc");
        assert_eq!(printable(&"y".repeat(SHOWN + 1)).chars().count(), SHOWN + 1);
    }

    #[test]
    fn answers_are_told_from_everything_else() {
        let (send, answers) = crossbeam_channel::bounded(1);
        let text = b"garbage \xff\xfe\n{\"type\":\"answer\",\"id\":3}\n[1]\n{\"type\":\"log\",\"message\":\"hi\"}\n{\"id\":4}\n";
        read("sink.test", &text[..], false, Some(send));
        assert_eq!(answers.iter().map(|answer| answer["id"].clone()).collect::<Vec<_>>(), [3]);
    }
}
