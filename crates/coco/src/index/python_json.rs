//! JSON as other programs write it: Python's `json.dump` puts `NaN`, `Infinity` and `-Infinity` where numbers are, and Windows tools
//! a byte order mark in front. The words become `null`; what it means is for the reader of the field to say.

use std::io::{self, BufRead, BufReader, Read};

const MARK: &[u8] = b"\xef\xbb\xbf";
const NULL: &[u8] = b"null";
const BUFFER: usize = 1 << 18;

/// A reader of such JSON that gives JSON.
pub(crate) struct PythonJson<R> {
    from: BufReader<R>,
    state: State,
    /// What is to be given before anything more is read.
    ready: Vec<u8>,
    given: usize,
    began: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Between values, or in a number or word.
    Plain,
    /// In a text.
    Text,
    /// Behind a backslash in a text.
    Escape,
    /// Behind a minus that may begin a word.
    Minus,
    /// In a word that begins with `N` or `I`, and no JSON word does.
    Word,
}

impl<R: Read> PythonJson<R> {
    pub(crate) fn new(from: R) -> Self {
        let from = BufReader::with_capacity(BUFFER, from);
        Self { from, state: State::Plain, ready: Vec::new(), given: 0, began: false }
    }

    /// Reads a part and makes it JSON; nothing is ready afterwards only at the end.
    fn fill(&mut self) -> io::Result<()> {
        (self.given, self.ready) = (0, std::mem::take(&mut self.ready));
        self.ready.clear();
        while self.ready.is_empty() {
            let part = self.from.fill_buf()?;
            if part.is_empty() {
                if std::mem::replace(&mut self.state, State::Plain) == State::Minus {
                    self.ready.push(b'-');
                }
                return Ok(());
            }
            let skipped = if !self.began && part.starts_with(MARK) { MARK.len() } else { 0 };
            self.began = true;
            let read = part.len();
            translate(&part[skipped..], &mut self.state, &mut self.ready);
            self.from.consume(read);
        }
        Ok(())
    }
}

fn translate(part: &[u8], state: &mut State, into: &mut Vec<u8>) {
    // Most of it is copied in long pieces: `from` is where the one at work begins.
    let mut from = 0;
    for (at, byte) in part.iter().enumerate() {
        match (*state, byte) {
            (State::Plain, b'"') => *state = State::Text,
            (State::Text, b'"') | (State::Escape, _) => {
                *state = if *state == State::Text { State::Plain } else { State::Text }
            }
            (State::Text, b'\\') => *state = State::Escape,
            (State::Plain, b'-') => {
                into.extend_from_slice(&part[from..at]);
                (*state, from) = (State::Minus, at + 1);
            }
            (State::Plain, b'N' | b'I') => {
                into.extend_from_slice(&part[from..at]);
                into.extend_from_slice(NULL);
                (*state, from) = (State::Word, at + 1);
            }
            (State::Minus, b'I') => {
                into.extend_from_slice(NULL);
                (*state, from) = (State::Word, at + 1);
            }
            (State::Minus, _) => {
                into.push(b'-');
                (*state, from) = (if *byte == b'"' { State::Text } else { State::Plain }, at);
            }
            (State::Word, byte) if byte.is_ascii_alphabetic() => from = at + 1,
            (State::Word, _) => (*state, from) = (if *byte == b'"' { State::Text } else { State::Plain }, at),
            (State::Plain | State::Text, _) => {}
        }
    }
    into.extend_from_slice(&part[from..]);
}

impl<R: Read> Read for PythonJson<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() {
            self.fill()?;
        }
        let count = to.len().min(self.ready.len() - self.given);
        to[..count].copy_from_slice(&self.ready[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], piece: usize) -> String {
        // One that gives little at a time: words lie across its pieces.
        struct Slow<'a>(&'a [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                let count = self.0.len().min(self.1).min(to.len());
                to[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let mut out = String::new();
        PythonJson::new(Slow(text, piece)).read_to_string(&mut out).unwrap();
        out
    }

    #[test]
    fn words_become_null_wherever_pieces_end() {
        let text = b"\xef\xbb\xbf{\"a\": [NaN, -1, -Infinity, Infinity,-2.5e-3,null], \"NaN \\\" -Infinity\": \"I\", \"b\":NaN}";
        let expected = "{\"a\": [null, -1, null, null,-2.5e-3,null], \"NaN \\\" -Infinity\": \"I\", \"b\":null}";
        for piece in 3..text.len() {
            assert_eq!(read(text, piece), expected, "{piece}");
        }
        assert_eq!(read(b"-", 1), "-");
        assert_eq!(read(b"", 1), "");
    }
}
