//! A large JSON document in pieces, on all cores.
//!
//! Objects of long lists are cut out and read as lists of their own, some thousand at a time; what is left, the skeleton, has a `0` where
//! each was. Both are then read by `serde_json`, so that here no more is known of JSON than what encloses what: where the skeleton with
//! its zeros and every piece are right, so is the document. Whatever is not goes to the one reader that can say what is wrong and where.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use memchr::memchr2;

use crate::parallel::cores;

/// Bytes of a piece, about. Small in this crate's own tests, so that their documents have several.
const PIECE: usize = if cfg!(test) { 100 } else { 1 << 18 };
/// Bytes that are read at once.
const BLOCK: usize = if cfg!(test) { 7 } else { 1 << 16 };
/// More than this in one object, or beside all pieces, is for the other reader.
const MOST: usize = 1 << 26;

/// Which lists are cut up.
#[derive(Clone, Copy)]
pub(crate) enum Lists {
    /// The document itself.
    Whole,
    /// Those at these keys of the document, an object.
    Keys(&'static [&'static str]),
}

/// Reads a document: `read` makes something of the text of a piece, a list, of the list whose number is given; `join` gets them in order.
/// Returns the skeleton and how many pieces each list had; `None` where anything was not as it should be.
pub(crate) fn read<P: Send>(
    from: impl Read + Send,
    lists: Lists,
    read: impl Fn(usize, &[u8]) -> Option<P> + Sync,
    join: impl FnMut(P) -> Option<()> + Send,
) -> Option<(Vec<u8>, Vec<usize>)> {
    let cutter = Mutex::new(Cutter::new(from, lists));
    let line = Mutex::new(Line { join, next: 0, waiting: BTreeMap::new() });
    let work = || -> Option<()> {
        let mut text = Vec::new();
        loop {
            let Some((number, list)) = lock(&cutter).piece(&mut text)? else { return Some(()) };
            let Some(part) = read(list, &text) else {
                lock(&cutter).failed = true;
                return None;
            };
            lock(&line).add(number, part)?;
        }
    };
    let whole = thread::scope(|scope| {
        let others: Vec<_> = (1..cores()).map(|_| scope.spawn(work)).collect();
        let own = work();
        let join = |other: thread::ScopedJoinHandle<'_, Option<()>>| {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        others.into_iter().map(join).fold(own, Option::and)
    });
    whole?;
    let cutter = cutter.into_inner().unwrap_or_else(PoisonError::into_inner);
    Some((cutter.skeleton, cutter.pieces))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was read of pieces, put in order.
struct Line<P, J> {
    join: J,
    next: usize,
    waiting: BTreeMap<usize, P>,
}

impl<P, J: FnMut(P) -> Option<()>> Line<P, J> {
    fn add(&mut self, number: usize, part: P) -> Option<()> {
        self.waiting.insert(number, part);
        while let Some(part) = self.waiting.remove(&self.next) {
            self.next += 1;
            (self.join)(part)?;
        }
        Some(())
    }
}

/// Cuts pieces out of a document.
struct Cutter<R> {
    from: R,
    lists: Lists,
    /// What was read and is in no piece and not in the skeleton yet.
    buffer: Vec<u8>,
    /// Up to where it has been looked at.
    at: usize,
    /// Whether a piece begins where the buffer does, of which list, and where its last whole object ends.
    open: bool,
    list: Option<usize>,
    whole: usize,
    depth: usize,
    text: bool,
    skeleton: Vec<u8>,
    pieces: Vec<usize>,
    failed: bool,
}

impl<R: Read> Cutter<R> {
    fn new(from: R, lists: Lists) -> Self {
        let count = match lists {
            Lists::Whole => 1,
            Lists::Keys(keys) => keys.len(),
        };
        Self {
            from,
            lists,
            buffer: Vec::with_capacity(PIECE + 2 * BLOCK),
            at: 0,
            open: false,
            list: None,
            whole: 0,
            depth: 0,
            text: false,
            skeleton: Vec::new(),
            pieces: vec![0; count],
            failed: false,
        }
    }

    /// The next piece: its text, its number and its list. `Some(None)` at the end of the document; `None` where it cannot go on.
    fn piece(&mut self, text: &mut Vec<u8>) -> Option<Option<(usize, usize)>> {
        loop {
            if let Some(list) = self.scan() {
                text.clear();
                text.push(b'[');
                text.extend_from_slice(&self.buffer[..self.whole]);
                text.push(b']');
                let number = self.pieces.iter().sum();
                self.pieces[list] += 1;
                self.drop_front(self.whole);
                (self.open, self.whole) = (false, 0);
                self.skeleton.push(b'0');
                return Some(Some((number, list)));
            }
            let held = self.buffer.len();
            let read = self.from.by_ref().take(BLOCK as u64).read_to_end(&mut self.buffer);
            self.failed |= held > MOST || self.skeleton.len() > MOST || read.is_err();
            let ended = self.buffer.len() == held;
            self.failed |= ended && (self.open || self.text);
            if self.failed {
                return None;
            }
            if ended {
                self.pass_over(held);
                return Some(None);
            }
        }
    }

    /// Looks at what was read, up to the end of a piece, whose list it returns, or of the buffer.
    fn scan(&mut self) -> Option<usize> {
        while self.at < self.buffer.len() && !self.failed {
            let rest = &self.buffer[self.at..];
            if self.text {
                let Some(end) = memchr2(b'"', b'\\', rest) else {
                    self.at = self.buffer.len();
                    break;
                };
                if rest[end] == b'"' {
                    self.text = false;
                    self.at += end + 1;
                } else if rest.len() > end + 1 {
                    self.at += end + 2;
                } else {
                    // What is behind the backslash has not been read.
                    self.at += end;
                    break;
                }
                continue;
            }
            let Some(found) = structure(rest) else {
                self.at = self.buffer.len();
                break;
            };
            let byte = rest[found];
            self.at += found + 1;
            match byte {
                b'"' => self.text = true,
                b'{' | b'[' => self.opened(byte),
                _ => {
                    if let Some(list) = self.closed(byte) {
                        return Some(list);
                    }
                }
            }
        }
        if !self.open {
            self.pass_over(self.at);
        }
        None
    }

    fn opened(&mut self, byte: u8) {
        let of_lists = self.of_lists();
        if byte == b'[' && self.depth + 1 == of_lists {
            self.pass_over(self.at);
            self.list = self.list_begun();
        } else if byte == b'{' && self.depth == of_lists && self.list.is_some() && !self.open {
            self.pass_over(self.at - 1);
            self.open = true;
        }
        self.depth += 1;
    }

    /// The list whose piece is whole.
    fn closed(&mut self, byte: u8) -> Option<usize> {
        self.depth = self.depth.saturating_sub(1);
        let of_lists = self.of_lists();
        if self.depth == of_lists && self.open && byte == b'}' {
            self.whole = self.at;
            return self.list.filter(|_| self.whole >= PIECE);
        }
        if self.depth + 1 == of_lists {
            self.failed |= self.open && self.whole == 0;
            return self.list.take().filter(|_| self.open && !self.failed);
        }
        None
    }

    /// How many brackets enclose an object of a list that is cut up.
    fn of_lists(&self) -> usize {
        match self.lists {
            Lists::Whole => 1,
            Lists::Keys(_) => 2,
        }
    }

    /// Which list the bracket at the skeleton's end begins.
    fn list_begun(&self) -> Option<usize> {
        let Lists::Keys(keys) = self.lists else { return Some(0) };
        let before = self.skeleton.strip_suffix(b"[")?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
        let before = before.strip_suffix(b"\"")?;
        keys.iter().position(|key| before.strip_suffix(key.as_bytes()).is_some_and(|before| before.ends_with(b"\"")))
    }

    /// To the skeleton.
    fn pass_over(&mut self, end: usize) {
        self.skeleton.extend_from_slice(&self.buffer[..end]);
        self.drop_front(end);
    }

    fn drop_front(&mut self, count: usize) {
        self.buffer.drain(..count);
        self.at -= count;
    }
}

/// Where the first quote or bracket is.
fn structure(bytes: &[u8]) -> Option<usize> {
    // `[` and `{`, `]` and `}` differ in one bit. A block at a time, without a branch, the compiler looks at many bytes at once.
    let is = |byte: u8| byte == b'"' || matches!(byte | 0x20, b'{' | b'}');
    let (blocks, _) = bytes.as_chunks::<32>();
    let plain =
        blocks.iter().take_while(|block| !block.iter().fold(false, |found, &byte| found | is(byte))).count() * 32;
    bytes[plain..].iter().position(|&byte| is(byte)).map(|found| plain + found)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use super::*;

    /// The document, and what comes of it with any byte left out, doubled, or another one in its place.
    pub(crate) fn damaged(text: &str) -> impl Iterator<Item = Vec<u8>> {
        let text = text.as_bytes().to_vec();
        (0..text.len()).flat_map(move |at| {
            let with = |middle: &[u8]| [&text[..at], middle, &text[at + 1..]].concat();
            let others = b"\"\\{}[],:0 Nn\n\xff".map(|byte| with(&[byte]));
            [with(&[]), with(&[text[at]; 2]), text[..at].to_vec()].into_iter().chain(others).collect::<Vec<_>>()
        })
    }

    #[test]
    fn pieces_and_skeleton_are_the_document() {
        let text = r#"{"b" : [{"x": "}]\\"}, 7], "a": [ {"x": [1, {"y": "\"{["}]} , {} ,{"long": "0123456789"},{"z":{}}], "c": {"a": [{"x":0}]}, "a\"": []}"#;
        let mut parts = String::new();
        let own = |list: usize, text: &[u8]| Some((list, String::from_utf8(text.to_vec()).unwrap()));
        let join = |(list, text): (usize, String)| {
            assert_eq!(list, 1);
            parts.push_str(&text);
            Some(())
        };
        let (skeleton, counts) = read(Cursor::new(text), Lists::Keys(&["b\\", "a"]), own, join).unwrap();
        let skeleton = String::from_utf8(skeleton).unwrap();
        assert_eq!(counts, [0, 1]);
        let list = text.find("{\"x\": [1").unwrap()..text.find("], \"c\"").unwrap();
        assert_eq!(parts, format!("[{}]", &text[list.clone()]));
        assert_eq!(skeleton, [&text[..list.start], "0", &text[list.end..]].concat());
    }
}
