//! Which runs are meant: `metric.accuracy > 0.9 and optimizer.sgd.lr < 0.1 and tag:baseline and not status = failed`.
//!
//! ```text
//! or       = and ("or" and)*
//! and      = not ("and" not)*
//! not      = "not" not | "(" or ")" | "tag:" word | key comparison value
//! key      = word | ("min" | "max" | "last") "(" word ")"
//! comparison = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" (the text is in it)
//! value    = number | word | "text in quotes"
//! ```
//!
//! A run that does not have the key is not meant, whatever the comparison. `created` is compared with a day or a time, in UTC.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use pipe_history::standing::Status;
use pipe_vocab::record::read_number;
use serde_json::Value;

use crate::key::{Key, unknown};
use crate::run::Run;

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Tag(String),
    Compare(Compare),
}

#[derive(Debug, Clone, PartialEq)]
struct Compare {
    key: Key,
    key_place: Range<usize>,
    how: How,
    with: String,
    with_place: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Contains,
}

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    expression: String,
    place: Range<usize>,
    message: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = |part: &str| part.chars().count();
        let before = columns(&self.expression[..self.place.start]);
        let marks = columns(&self.expression[self.place.clone()]).max(1);
        write!(f, "{}\n  {}\n  {}{}", self.message, self.expression, " ".repeat(before), "^".repeat(marks))
    }
}

impl Wrong {
    /// At a place of a text.
    pub(crate) fn at(expression: &str, place: Range<usize>, message: impl Into<String>) -> Wrong {
        Wrong { expression: expression.to_owned(), place, message: message.into() }
    }
}

impl std::error::Error for Wrong {}

#[derive(Debug, Clone, PartialEq)]
struct Token {
    text: String,
    quoted: bool,
    place: Range<usize>,
}

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// With the place of what is wrong.
    pub fn parse(expression: &str) -> Result<Filter, Wrong> {
        let tokens = tokens(expression)?;
        let mut parser = Parser { expression, tokens, at: 0, depth: 0 };
        let node = parser.or()?;
        match parser.peek() {
            None => Ok(Filter(node)),
            Some(token) => Err(parser.wrong(token.place.clone(), "`and` or `or` is expected here")),
        }
    }

    /// Checks that each key is one that a run has, and no number is to be more or less than a word.
    ///
    /// # Errors
    /// With the place of one that none has, and what it may have been meant for.
    pub fn check<R: Borrow<Run>>(&self, expression: &str, runs: &[R]) -> Result<(), Wrong> {
        if runs.is_empty() {
            return Ok(());
        }
        for Compare { key, key_place, how, with, with_place } in self.0.comparisons() {
            if let Err(near) = key.known(runs) {
                return Err(Wrong::at(expression, key_place.clone(), unknown(key, &near)));
            }
            let is_number = |run: &R| key.value(run.borrow()).is_some_and(|value| read_number(&value).is_some());
            if how.orders() && with.parse::<f64>().is_err() && runs.iter().any(is_number) {
                let message = format!("a number is expected here, as `{}` is one", key.text);
                return Err(Wrong::at(expression, with_place.clone(), message));
            }
        }
        Ok(())
    }

    /// Whether a run is meant.
    pub fn takes(&self, run: &Run) -> bool {
        self.0.takes(run)
    }

    /// Whether it asks for a tag.
    pub fn names_tag(&self, tag: &str) -> bool {
        self.0.names_tag(tag)
    }
}

impl Node {
    fn takes(&self, run: &Run) -> bool {
        match self {
            Node::Or(parts) => parts.iter().any(|part| part.takes(run)),
            Node::And(parts) => parts.iter().all(|part| part.takes(run)),
            Node::Not(part) => !part.takes(run),
            Node::Tag(tag) => run.tags.contains(tag),
            Node::Compare(Compare { key, how, with, .. }) => {
                key.value(run).is_some_and(|value| how.holds(&value, with))
            }
        }
    }

    fn comparisons(&self) -> Vec<&Compare> {
        match self {
            Node::Or(parts) | Node::And(parts) => parts.iter().flat_map(Node::comparisons).collect(),
            Node::Not(part) => part.comparisons(),
            Node::Tag(_) => Vec::new(),
            Node::Compare(compare) => vec![compare],
        }
    }

    fn names_tag(&self, tag: &str) -> bool {
        match self {
            Node::Or(parts) | Node::And(parts) => parts.iter().any(|part| part.names_tag(tag)),
            Node::Not(part) => part.names_tag(tag),
            Node::Tag(own) => own == tag,
            Node::Compare(_) => false,
        }
    }
}

impl Compare {
    /// As it is compared.
    ///
    /// # Errors
    /// What no run can be: a status that there is not, a day that is none.
    fn checked(mut self, expression: &str) -> Result<Node, Wrong> {
        let wrong = |message: String| Err(Wrong::at(expression, self.with_place.clone(), message));
        match self.key.name.as_str() {
            _ if self.key.which.is_some() => {}
            "status" if matches!(self.how, How::Equal | How::Unequal) => {
                let all = Status::ALL.map(|status| status.to_string());
                if !all.contains(&self.with) {
                    return wrong(format!("no run is `{}`, but {}", self.with, all.join(", ")));
                }
            }
            "created" if self.with.parse::<f64>().is_err() => {
                if !self.how.orders() {
                    return wrong("a time is compared by one of < <= > >=".into());
                }
                match seconds(&self.with) {
                    Some(seconds) => self.with = seconds.to_string(),
                    None => {
                        return wrong(
                            "a day or a time is expected here, such as 2026-01-31 or 2026-01-31T18:30, in UTC".into(),
                        );
                    }
                }
            }
            _ => {}
        }
        Ok(Node::Compare(self))
    }
}

/// A day or a time in UTC as seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    let time: DateTime = text.trim().trim_end_matches('Z').parse().ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

impl How {
    /// Whether it asks which of two is more.
    fn orders(self) -> bool {
        matches!(self, How::Less | How::AtMost | How::Greater | How::AtLeast)
    }

    fn holds(self, value: &Value, with: &str) -> bool {
        let text = text_of(value);
        if self == How::Contains {
            return text.contains(with);
        }
        let order = match (read_number(value), with.parse::<f64>()) {
            (Some(own), Ok(with)) => own.partial_cmp(&with),
            (Some(_), Err(_)) if self.orders() => None,
            _ => Some(text.as_str().cmp(with)),
        };
        match self {
            How::Equal => order == Some(Ordering::Equal),
            How::Unequal => order != Some(Ordering::Equal),
            How::Less => order == Some(Ordering::Less),
            How::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            How::Greater => order == Some(Ordering::Greater),
            How::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            How::Contains => false,
        }
    }
}

/// A value as one reads it: a text without quotes.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(text_of).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// The order of two runs by a column: numbers before texts, what is not there last.
pub fn order(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => match (read_number(a), read_number(b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => text_of(a).cmp(&text_of(b)),
        },
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

const SIGNS: [(&str, How); 8] = [
    ("==", How::Equal),
    ("!=", How::Unequal),
    ("<=", How::AtMost),
    (">=", How::AtLeast),
    ("=", How::Equal),
    ("<", How::Less),
    (">", How::Greater),
    ("~", How::Contains),
];

fn tokens(expression: &str) -> Result<Vec<Token>, Wrong> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = expression[at..].chars().next() {
        let rest = &expression[at..];
        let (length, quoted) = match first {
            space if space.is_whitespace() => {
                at += space.len_utf8();
                continue;
            }
            '(' | ')' => (1, false),
            '"' | '\'' => match rest[1..].find(first) {
                Some(end) => (end + 2, true),
                None => {
                    return Err(Wrong::at(expression, at..expression.len(), "the quotes are not closed"));
                }
            },
            _ => match SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
                Some((sign, _)) => (sign.len(), false),
                None => {
                    let ends = |c: char| c.is_whitespace() || "()=!<>~\"'".contains(c);
                    (rest.find(ends).unwrap_or(rest.len()).max(first.len_utf8()), false)
                }
            },
        };
        let text = if quoted { &rest[1..length - 1] } else { &rest[..length] };
        tokens.push(Token { text: text.to_owned(), quoted, place: at..at + length });
        at += length;
    }
    Ok(tokens)
}

fn is_sign(text: &str) -> bool {
    text.starts_with(['(', ')', '=', '!', '<', '>', '~'])
}

struct Parser<'a> {
    expression: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

/// Parentheses and `not` lie no deeper in each other.
const DEEPEST: usize = 100;

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn eat(&mut self, word: &str) -> bool {
        let is = self.peek().is_some_and(|token| !token.quoted && token.text == word);
        self.at += usize::from(is);
        is
    }

    fn wrong(&self, place: Range<usize>, message: impl Into<String>) -> Wrong {
        Wrong::at(self.expression, place, message)
    }

    fn end(&self) -> Range<usize> {
        self.expression.len()..self.expression.len()
    }

    fn or(&mut self) -> Result<Node, Wrong> {
        let mut parts = vec![self.and()?];
        while self.eat("or") {
            parts.push(self.and()?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Node::Or(parts) })
    }

    fn and(&mut self) -> Result<Node, Wrong> {
        let mut parts = vec![self.not()?];
        while self.eat("and") {
            parts.push(self.not()?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Node::And(parts) })
    }

    fn not(&mut self) -> Result<Node, Wrong> {
        self.depth += 1;
        let place = self.peek().map_or(self.end(), |token| token.place.clone());
        if self.depth > DEEPEST {
            return Err(self.wrong(place, "this lies too deep"));
        }
        let node = if self.eat("not") {
            Node::Not(Box::new(self.not()?))
        } else if self.eat("(") {
            let inner = self.or()?;
            if !self.eat(")") {
                return Err(self.wrong(place, "this parenthesis is not closed"));
            }
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node, Wrong> {
        let Some(word) = self.next() else {
            return Err(self.wrong(self.end(), "a comparison is expected, such as `optimizer.sgd.lr < 0.1`"));
        };
        if let Some(tag) = word.text.strip_prefix("tag:").filter(|tag| !tag.is_empty() && !word.quoted) {
            return Ok(Node::Tag(tag.to_owned()));
        }
        let (mut text, mut place) = (word.text.clone(), word.place.clone());
        if !word.quoted && ["min", "max", "last"].contains(&word.text.as_str()) && self.eat("(") {
            let inner = self.next().ok_or_else(|| self.wrong(self.end(), "the name of a curve is expected"))?;
            if !self.eat(")") {
                return Err(self.wrong(inner.place, "`)` is expected behind this name"));
            }
            text = format!("{text}({})", inner.text);
            place.end = self.tokens[self.at - 1].place.end;
        }
        let is_name = word.quoted || !is_sign(&word.text);
        if !is_name {
            return Err(self.wrong(place, "a name is expected here: of an option, a curve, or a field of the run"));
        }
        let sign = self.next();
        let how = sign.as_ref().filter(|token| !token.quoted);
        let how = how.and_then(|token| SIGNS.iter().find(|(sign, _)| *sign == token.text));
        let Some((_, how)) = how else {
            let place = sign.map_or(self.end(), |token| token.place);
            return Err(self.wrong(place, "one of = != < <= > >= ~ is expected here"));
        };
        match self.next() {
            Some(with) if with.quoted || !is_sign(&with.text) => {
                let (key, with_place) = (Key::of(&text), with.place);
                Compare { key, key_place: place, how: *how, with: with.text, with_place }.checked(self.expression)
            }
            other => {
                let place = other.map_or(self.end(), |token| token.place);
                Err(self.wrong(place, "a value is expected here: a number, a word, or a text in quotes"))
            }
        }
    }
}
