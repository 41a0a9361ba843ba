//! TOML text to a tree, with every error in it.
//!
//! The crate `toml_parser` turns text into events and reports errors of syntax as it goes; here the events become keys and
//! values, and its errors become diagnostics. What tables and keys may do is in `build.rs`.
//!
//! Not `toml::de::DeTable::parse_recoverable`: it drops the rest of the file after a key without `=`, the value or table that
//! a second one of its name replaces, and the places of what errors refer to (first of two keys, opening bracket).

use std::borrow::Cow;
use std::collections::HashSet;

use toml_parser::decoder::{Encoding, ScalarKind};
use toml_parser::lexer::{Token, TokenKind};
use toml_parser::parser::{self, Event, EventKind, RecursionGuard, ValidateWhitespace};
use toml_parser::{ParseError, Source, Span};

use super::build::{Builder, Key};
use super::limits::{MAX_BYTES, MAX_DEPTH, MAX_ERRORS};
use super::node::Form;
use super::segments::segments;
use super::{Layer, Node, Table, Value, syntax};
use crate::diagnostic::{Diagnostic, Diagnostics, Location, SourceId};

/// Parses a file. What cannot be understood is reported and left out; the rest of the file still counts.
pub(super) fn parse(text: &str, source: SourceId, layer: Layer, found: &mut Diagnostics) -> Table {
    if text.len() > MAX_BYTES {
        let message = format!("the file is larger than {} MiB", MAX_BYTES >> 20);
        found.push(Diagnostic::error("syntax", message).at(Location::new(source, 0..0)));
        return Table::default();
    }
    if let Some(foreign) = syntax::foreign(text, source) {
        found.push(foreign);
        return Table::default();
    }
    let tokens = Source::new(text).lex().into_vec();
    let mut reader = Reader::new(text, source, layer);
    let mut start = 0;
    for end in segments(text, &tokens) {
        reader.read_document(&tokens[start..end]);
        start = end;
    }
    reader.finish(found)
}

/// The parts of a dotted key, or `None` where the text is no key.
pub(super) fn key_names(text: &str, source: SourceId) -> Option<Vec<String>> {
    let tokens = Source::new(text).lex().into_vec();
    let mut reader = Reader::new(text, source, Layer::File);
    let keys = reader.read_key(&tokens).filter(|keys| !keys.is_empty() && reader.errors.is_empty())?;
    // The grammar of a key ends with the key.
    let end = keys.last()?.location.span.end;
    let names = keys.into_iter().map(|key| key.name).collect();
    text[end..].trim().is_empty().then_some(names)
}

/// Parses `a.b.c=VALUE`; no value where VALUE is `null`, which takes the key away. A VALUE that is no TOML and does not begin
/// like a string, array or table is taken as text.
pub(super) fn parse_set(text: &str, source: SourceId, found: &mut Diagnostics) -> Option<(Vec<Key>, Option<Node>)> {
    let whole = Location::new(source, 0..text.len());
    let wrong = |message: &str| {
        Diagnostic::error("invalid-set", message)
            .at(whole.clone())
            .help("write it like `--set engine.trainer.max_epochs=2`")
    };
    let tokens = Source::new(text).lex().into_vec();
    let Some(equals) = tokens.iter().position(|token| token.kind() == TokenKind::Equals) else {
        found.push(wrong("`--set` needs a key and a value with `=` between them"));
        return None;
    };
    let mut reader = Reader::new(text, source, Layer::Set);
    let keys = reader.read_key(&tokens[..equals]);
    if keys.as_ref().is_none_or(Vec::is_empty) || !reader.errors.is_empty() {
        found.push(wrong("the key of `--set` is not a valid TOML key"));
        return None;
    }
    let start = tokens[equals].span().end();
    let value_text = text[start..].trim();
    if value_text.is_empty() {
        found.push(wrong("`--set` has no value").help("for an empty string, write `key=''`"));
        return None;
    }
    if value_text == "null" {
        return Some((keys?, None));
    }
    let value = reader.read_value(&tokens[equals + 1..]);
    let meant_as_toml = value_text.starts_with(['"', '\'', '[', '{']);
    let value = if reader.errors.is_empty() {
        value
    } else if meant_as_toml {
        reader.report(found);
        return None;
    } else {
        let start = start + text[start..].find(value_text).unwrap_or_default();
        let location = Location::new(source, start..start + value_text.len());
        Some(Node::new(Value::String(value_text.to_owned()), location, Layer::Set))
    };
    Some((keys?, Some(value?)))
}

/// Turns events into a tree.
struct Reader<'t> {
    text: &'t str,
    source: SourceId,
    layer: Layer,
    builder: Builder,
    errors: Vec<ParseError>,
    /// Values that could not be read; what later phases say about them would only repeat that.
    broken: Vec<Location>,
}

/// The events of one piece of text, read from the front.
struct Events {
    items: Vec<Event>,
    next: usize,
}

impl Events {
    fn next(&mut self) -> Option<Event> {
        let event = self.items.get(self.next).copied();
        self.next += 1;
        event
    }

    fn peek_kind(&self) -> Option<EventKind> {
        self.items.get(self.next).map(Event::kind)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek_kind(), Some(EventKind::Whitespace | EventKind::Comment | EventKind::Newline)) {
            self.next += 1;
        }
    }

    fn skip_blanks(&mut self) {
        while self.peek_kind() == Some(EventKind::Whitespace) {
            self.next += 1;
        }
    }
}

type Grammar = fn(&[Token], &mut dyn parser::EventReceiver, &mut dyn toml_parser::ErrorSink);

impl<'t> Reader<'t> {
    fn new(text: &'t str, source: SourceId, layer: Layer) -> Self {
        let builder = Builder::new(source, layer.clone());
        Self { text, source, layer, builder, errors: Vec::new(), broken: Vec::new() }
    }

    fn finish(mut self, found: &mut Diagnostics) -> Table {
        self.report(found);
        let (root, problems) = self.builder.finish();
        found.extend(problems);
        root
    }

    fn report(&mut self, found: &mut Diagnostics) {
        let line = |error: &ParseError| {
            let at = error.unexpected().map_or(0, |span| span.start()).min(self.text.len());
            self.text.as_bytes()[..at].iter().rposition(|byte| *byte == b'\n')
        };
        let (consequences, errors): (Vec<_>, Vec<_>) =
            self.errors.drain(..).take(MAX_ERRORS).partition(syntax::is_consequence);
        let lines: HashSet<_> = errors.iter().map(line).collect();
        let alone = consequences.iter().filter(|error| !lines.contains(&line(error)));
        for error in errors.iter().chain(alone) {
            found.push(syntax::diagnostic(error, self.text, self.source));
        }
        self.broken.drain(..).for_each(|place| found.mute(place));
    }

    fn events(&mut self, tokens: &[Token], grammar: Grammar) -> Events {
        let mut items = Vec::with_capacity(tokens.len());
        let mut checked = ValidateWhitespace::new(&mut items, Source::new(self.text));
        let limit = u32::try_from(MAX_DEPTH).unwrap_or(u32::MAX);
        let mut guarded = RecursionGuard::new(&mut checked, limit);
        grammar(tokens, &mut guarded, &mut self.errors);
        Events { items, next: 0 }
    }

    fn read_document(&mut self, tokens: &[Token]) {
        let mut events = self.events(tokens, parser::parse_document);
        while let Some(event) = events.next() {
            match event.kind() {
                EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                    self.read_header(event, &mut events);
                }
                EventKind::SimpleKey => {
                    let path = self.path(event, &mut events);
                    if let Some(value) = self.assigned(&mut events, path.as_ref().map_or(0, Vec::len))
                        && let Some(path) = path
                    {
                        self.builder.set(&path, value);
                    }
                }
                _ => {}
            }
        }
    }

    fn read_key(&mut self, tokens: &[Token]) -> Option<Vec<Key>> {
        let mut events = self.events(tokens, parser::parse_key);
        events.skip_space();
        let first = events.next()?;
        self.path(first, &mut events)
    }

    fn read_value(&mut self, tokens: &[Token]) -> Option<Node> {
        let blank = |token: &&Token| token.kind() == TokenKind::Whitespace;
        let start = tokens.iter().take_while(blank).count();
        let mut end = tokens.len();
        while end > start && matches!(tokens[end - 1].kind(), TokenKind::Whitespace | TokenKind::Eof) {
            end -= 1;
        }
        let mut events = self.events(&tokens[start..end], parser::parse_value);
        self.value(&mut events, 1)
    }

    fn read_header(&mut self, open: Event, events: &mut Events) {
        let mut path = None;
        let mut end = open.span().end();
        while let Some(kind) = events.peek_kind() {
            // A header ends with its line, closed or not.
            if matches!(kind, EventKind::Newline | EventKind::Comment) {
                break;
            }
            let Some(event) = events.next() else { break };
            end = event.span().end();
            match kind {
                EventKind::SimpleKey => path = self.path(event, events),
                EventKind::StdTableClose | EventKind::ArrayTableClose => break,
                _ => {}
            }
        }
        let location = Location::new(self.source, open.span().start()..end);
        let repeated = open.kind() == EventKind::ArrayTableOpen;
        self.builder.open(path.as_deref(), repeated, location);
    }

    /// A dotted key from its first part on; `None` where a part is missing.
    fn path(&mut self, first: Event, events: &mut Events) -> Option<Vec<Key>> {
        let mut path = vec![self.key(first)];
        loop {
            events.skip_blanks();
            if events.peek_kind() != Some(EventKind::KeySep) {
                break;
            }
            events.next();
            events.skip_blanks();
            if events.peek_kind() != Some(EventKind::SimpleKey) {
                break;
            }
            if let Some(event) = events.next() {
                path.push(self.key(event));
            }
        }
        path.into_iter().collect()
    }

    fn key(&mut self, event: Event) -> Option<Key> {
        let raw = Source::new(self.text).get(event)?;
        let mut name = Cow::Borrowed("");
        raw.decode_key(&mut name, &mut self.errors);
        let span = event.span();
        let location = Location::new(self.source, span.start()..span.end());
        (!span.is_empty()).then(|| Key { name: name.into_owned(), location })
    }

    /// The value after `=`, if there are both.
    fn assigned(&mut self, events: &mut Events, depth: usize) -> Option<Node> {
        events.skip_blanks();
        if events.peek_kind() != Some(EventKind::KeyValSep) {
            return None;
        }
        events.next();
        events.skip_blanks();
        self.value(events, depth)
    }

    fn value(&mut self, events: &mut Events, depth: usize) -> Option<Node> {
        while events.peek_kind() == Some(EventKind::Error) {
            events.next();
        }
        match events.peek_kind()? {
            EventKind::Scalar => {
                let event = events.next()?;
                self.scalar(event)
            }
            EventKind::ArrayOpen => {
                let open = events.next()?;
                self.array(open, events, depth)
            }
            EventKind::InlineTableOpen => {
                let open = events.next()?;
                self.inline_table(open, events, depth)
            }
            _ => None,
        }
    }

    fn node(&self, value: Value, start: usize, end: usize) -> Node {
        Node::new(value, Location::new(self.source, start..end.max(start)), self.layer.clone())
    }

    fn array(&mut self, open: Event, events: &mut Events, depth: usize) -> Option<Node> {
        let mut items = Vec::new();
        let mut end = open.span().end();
        while let Some(kind) = events.peek_kind() {
            match kind {
                EventKind::ArrayClose => {
                    end = events.next()?.span().end();
                    break;
                }
                EventKind::Scalar | EventKind::ArrayOpen | EventKind::InlineTableOpen => {
                    let item = self.value(events, depth + 1);
                    items.extend(item);
                }
                _ => {
                    events.next();
                }
            }
        }
        (depth <= MAX_DEPTH).then(|| self.node(Value::Array(items), open.span().start(), end))
    }

    fn inline_table(&mut self, open: Event, events: &mut Events, depth: usize) -> Option<Node> {
        let mut inner = Builder::new(self.source, self.layer.clone()).inside(depth);
        let mut end = open.span().end();
        while let Some(kind) = events.peek_kind() {
            let event = events.next()?;
            match kind {
                EventKind::InlineTableClose => {
                    end = event.span().end();
                    break;
                }
                EventKind::SimpleKey => {
                    let path = self.path(event, events);
                    events.skip_space();
                    if events.peek_kind() != Some(EventKind::KeyValSep) {
                        continue;
                    }
                    events.next();
                    events.skip_space();
                    let length = path.as_ref().map_or(1, Vec::len);
                    let value = self.value(events, depth + length);
                    if let (Some(path), Some(value)) = (path, value) {
                        inner.set(&path, value);
                    }
                }
                _ => {}
            }
        }
        let (mut table, problems) = inner.finish();
        table.form = Form::Inline;
        self.builder.problems.extend(problems);
        (depth <= MAX_DEPTH).then(|| self.node(Value::Table(table), open.span().start(), end))
    }

    fn scalar(&mut self, event: Event) -> Option<Node> {
        let span = event.span();
        if span.is_empty() {
            if event.encoding().is_none() {
                self.errors.push(ParseError::new("missing value").with_unexpected(span));
            }
            return None;
        }
        let raw = Source::new(self.text).get(event)?;
        let before = self.errors.len();
        let mut text = Cow::Borrowed("");
        let kind = raw.decode_scalar(&mut text, &mut self.errors);
        let value = if self.errors.len() > before {
            // Already reported; kept so that nobody calls the key missing.
            Value::String(text.into_owned())
        } else {
            convert(kind, text.into_owned()).unwrap_or_else(|(why, text)| {
                self.errors.push(ParseError::new(why).with_unexpected(span));
                Value::String(text)
            })
        };
        if self.errors.len() > before {
            self.point_at_opening(event, before);
            self.broken.push(Location::new(self.source, span.start()..span.end()));
        }
        Some(self.node(value, span.start(), span.end()))
    }
}

impl Reader<'_> {
    /// A multi-line string without end runs to the end of the file, where nobody looks for the mistake.
    fn point_at_opening(&mut self, event: Event, first_error: usize) {
        if !matches!(event.encoding(), Some(Encoding::MlBasicString | Encoding::MlLiteralString)) {
            return;
        }
        let start = event.span().start();
        for error in &mut self.errors[first_error..] {
            *error = error.clone().with_context(Span::new_unchecked(start, start + 3));
        }
    }
}

/// The value of a decoded scalar, or why there is none.
fn convert(kind: ScalarKind, text: String) -> Result<Value, (String, String)> {
    Ok(match kind {
        ScalarKind::String => Value::String(text),
        ScalarKind::Boolean(flag) => Value::Boolean(flag),
        ScalarKind::Integer(radix) => match i64::from_str_radix(&text, radix.value()) {
            Ok(number) => Value::Integer(number),
            Err(_) => return Err(("the integer does not fit in 64 bits".to_owned(), text)),
        },
        ScalarKind::Float => match text.parse::<f64>() {
            Ok(number) if number.is_finite() || text.contains(['i', 'n']) => Value::Float(number),
            _ => return Err(("the number is too large".to_owned(), text)),
        },
        ScalarKind::DateTime => match text.parse::<toml::value::Datetime>() {
            Ok(date) => Value::Datetime(date.to_string()),
            Err(error) => return Err((format!("not a date or time: {error}"), text)),
        },
    })
}
