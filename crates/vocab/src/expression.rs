//! Arithmetic on measured values, as a text: `2 * metric.p:precision / (metric.p:precision + metric.r:recall)`.
//!
//! `+ - * / ( )`, numbers, names of values and the functions of [`FUNCTIONS`]. A value's name may hold `/` and `-`
//! (`metric.coco:segm/AP`), so it reaches to the next space, `+`, `*`, comma or parenthesis.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::value_ref::ValueRef;

/// The functions, by name.
pub const FUNCTIONS: [&str; 7] = ["min", "max", "mean", "sqrt", "abs", "exp", "log"];

/// How deep parentheses may go, and how many bytes there may be.
const DEPTH: usize = 64;
const LENGTH: usize = 4096;

/// A parsed expression and its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    text: String,
    root: Term,
    values: Vec<(ValueRef, Range<usize>)>,
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    /// What is wrong.
    pub message: String,
    /// The bytes of the text that it is about.
    pub span: Range<usize>,
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at character {})", self.message, self.span.start + 1)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Term {
    Number(f64),
    /// An index into the values.
    Value(usize),
    Negative(Box<Term>),
    Binary(u8, Box<Term>, Box<Term>),
    Call(&'static str, Vec<Term>),
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// The first place that is not as it should be.
    pub fn parse(text: &str) -> Result<Expression, ExpressionError> {
        let mut parser = Parser { text, at: 0, depth: 0, values: Vec::new() };
        if text.len() > LENGTH {
            return Err(parser.error(format!("the expression is longer than {LENGTH} bytes")));
        }
        let root = parser.sum()?;
        parser.spaces();
        if parser.at < text.len() {
            return Err(parser.error("expected an operator"));
        }
        Ok(Expression { text: text.to_owned(), root, values: parser.values })
    }

    /// The values that it names, each with its bytes of the text.
    pub fn values(&self) -> &[(ValueRef, Range<usize>)] {
        &self.values
    }

    /// Its value, by IEEE's rules: 0 / 0 is NaN.
    ///
    /// # Errors
    /// Those of `value`, which is asked once for each name in the text.
    pub fn evaluate<E>(&self, value: impl FnMut(&ValueRef) -> Result<f64, E>) -> Result<f64, E> {
        let values = self.values.iter().map(|(name, _)| name).map(value).collect::<Result<Vec<f64>, E>>()?;
        Ok(self.root.of(&values))
    }
}

impl Term {
    fn of(&self, values: &[f64]) -> f64 {
        match self {
            Term::Number(number) => *number,
            Term::Value(index) => values[*index],
            Term::Negative(term) => -term.of(values),
            Term::Binary(operator, left, right) => {
                let (left, right) = (left.of(values), right.of(values));
                match operator {
                    b'+' => left + right,
                    b'-' => left - right,
                    b'*' => left * right,
                    _ => left / right,
                }
            }
            Term::Call(function, arguments) => {
                let given: Vec<f64> = arguments.iter().map(|term| term.of(values)).collect();
                // Unlike f64's own, so that a value that is missing is not hidden.
                let extreme = |better: fn(f64, f64) -> bool| {
                    let pick = |a: f64, b: f64| if a.is_nan() || better(a, b) { a } else { b };
                    given.iter().copied().reduce(pick).unwrap_or(f64::NAN)
                };
                match *function {
                    "min" => extreme(|a, b| a < b),
                    "max" => extreme(|a, b| a > b),
                    "mean" => given.iter().sum::<f64>() / given.len() as f64,
                    "sqrt" => given[0].sqrt(),
                    "abs" => given[0].abs(),
                    "exp" => given[0].exp(),
                    _ => given[0].ln(),
                }
            }
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    values: Vec<(ValueRef, Range<usize>)>,
}

impl Parser<'_> {
    fn spaces(&mut self) {
        self.at += self.text[self.at..].len() - self.text[self.at..].trim_start().len();
    }

    fn error(&self, message: impl Into<String>) -> ExpressionError {
        let length = self.text[self.at..].chars().next().map_or(0, char::len_utf8);
        ExpressionError { message: message.into(), span: self.at..self.at + length }
    }

    /// The next byte, if it is one of these, which is then passed.
    fn take(&mut self, wanted: &[u8]) -> Option<u8> {
        self.spaces();
        let next = self.text.as_bytes().get(self.at).copied().filter(|next| wanted.contains(next))?;
        self.at += 1;
        Some(next)
    }

    fn chain(
        &mut self,
        operators: &[u8],
        part: fn(&mut Self) -> Result<Term, ExpressionError>,
    ) -> Result<Term, ExpressionError> {
        let mut left = part(self)?;
        while let Some(operator) = self.take(operators) {
            left = Term::Binary(operator, Box::new(left), Box::new(part(self)?));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Term, ExpressionError> {
        self.chain(b"+-", Self::product)
    }

    fn product(&mut self) -> Result<Term, ExpressionError> {
        self.chain(b"*/", Self::factor)
    }

    fn factor(&mut self) -> Result<Term, ExpressionError> {
        if self.depth >= DEPTH {
            return Err(self.error("the expression is nested too deeply"));
        }
        self.depth += 1;
        let term = match self.take(b"-(") {
            Some(b'-') => Term::Negative(Box::new(self.factor()?)),
            Some(_) => {
                let inner = self.sum()?;
                self.close()?;
                inner
            }
            None => self.word()?,
        };
        self.depth -= 1;
        Ok(term)
    }

    fn close(&mut self) -> Result<(), ExpressionError> {
        self.take(b")").map(drop).ok_or_else(|| self.error("expected `)`"))
    }

    /// A number, a value or a call.
    fn word(&mut self) -> Result<Term, ExpressionError> {
        let rest = &self.text[self.at..];
        if rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return self.number();
        }
        let length = rest.find(|c: char| c.is_whitespace() || "()+*,".contains(c)).unwrap_or(rest.len());
        let (word, span) = (&rest[..length], self.at..self.at + length);
        if word.is_empty() {
            return Err(self.error("expected a number, a value or `(`"));
        }
        let wrong = |message: String| ExpressionError { message, span: span.clone() };
        if word.contains([':', '.']) {
            let value = serde_json::from_value::<ValueRef>(word.into()).map_err(|error| wrong(error.to_string()))?;
            self.at += length;
            self.values.push((value, span));
            return Ok(Term::Value(self.values.len() - 1));
        }
        let function = FUNCTIONS.into_iter().find(|name| *name == word);
        let function = function.ok_or_else(|| {
            wrong(format!(
                "`{word}` is neither a value (`metric.NAME:VALUE`) nor a function ({})",
                FUNCTIONS.join(", ")
            ))
        })?;
        self.at += length;
        if self.take(b"(").is_none() {
            return Err(self.error(format!("expected `(` after `{function}`")));
        }
        let mut arguments = vec![self.sum()?];
        while self.take(b",").is_some() {
            arguments.push(self.sum()?);
        }
        self.close()?;
        if arguments.len() > 1 && !matches!(function, "min" | "max" | "mean") {
            return Err(wrong(format!("`{function}` takes one argument")));
        }
        Ok(Term::Call(function, arguments))
    }

    /// Digits, a point, an exponent.
    fn number(&mut self) -> Result<Term, ExpressionError> {
        let bytes = self.text.as_bytes();
        let mut end = self.at;
        while let Some(next) = bytes.get(end) {
            let sign = matches!(next, b'+' | b'-') && matches!(bytes[end - 1], b'e' | b'E') && end > self.at;
            if !(next.is_ascii_alphanumeric() || *next == b'.' || sign) {
                break;
            }
            end += 1;
        }
        let word = &self.text[self.at..end];
        let number = word
            .parse::<f64>()
            .map_err(|_| ExpressionError { message: format!("`{word}` is not a number"), span: self.at..end })?;
        self.at = end;
        Ok(Term::Number(number))
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Expression::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Expression {
    fn schema_name() -> Cow<'static, str> {
        "expression".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-expression": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> f64 {
        let of = |value: &ValueRef| match value.to_string().as_str() {
            "metric.p:precision" => Ok(0.5),
            "metric.coco:segm/AP" => Ok(0.25),
            "engine.t:loss" => Ok(f64::NAN),
            other => Err(other.to_owned()),
        };
        Expression::parse(text).unwrap().evaluate(of).unwrap()
    }

    #[test]
    fn arithmetic() {
        for (text, expected) in [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("8 / 4 / 2 - 1 - 1", -1.0),
            ("-2 * -(1 - 3)", -4.0),
            ("1.5e1 + 1e-1", 15.1),
            ("2*metric.p:precision+1", 2.0),
            ("metric.coco:segm/AP / metric.p:precision", 0.5),
            ("mean(metric.p:precision, metric.coco:segm/AP)", 0.375),
            ("max(1, min(5, 3)) + sqrt(16) + abs(-1) + exp(0) + log(1)", 9.0),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
        assert!(value("max(1, engine.t:loss)").is_nan() && value("min(engine.t:loss, 1)").is_nan());
        assert!(value("0 / 0").is_nan());
        assert_eq!(value("1 / 0"), f64::INFINITY);
    }

    #[test]
    fn mistakes_have_their_place() {
        for (text, at, part) in [
            ("", 0, "expected a number"),
            ("1 +", 3, "expected a number"),
            ("1 2", 2, "expected an operator"),
            ("(1 + 2", 6, "expected `)`"),
            ("2 * precision", 4, "neither a value"),
            ("2 * metric.p", 4, "not the name of a value"),
            ("2 * handler.p:x", 4, "not the name of a value"),
            ("sqrt 2", 5, "expected `(` after `sqrt`"),
            ("1 + sqrt(1, 2)", 4, "one argument"),
            ("1.2.3", 0, "not a number"),
            ("1 + ß", 4, "neither"),
        ] {
            let error = Expression::parse(text).unwrap_err();
            assert_eq!(error.span.start, at, "{text}: {error}");
            assert!(error.message.contains(part), "{text}: {error}");
        }
        assert!(Expression::parse(&"(".repeat(100)).unwrap_err().message.contains("too deeply"));
        assert!(Expression::parse(&"-".repeat(100)).unwrap_err().message.contains("too deeply"));
        assert!(Expression::parse(&"1+".repeat(100_000)).unwrap_err().message.contains("longer"));
    }

    #[test]
    fn values_have_their_places() {
        let expression = Expression::parse("metric.p:a + (metric.q:b/c)").unwrap();
        let seen: Vec<_> = expression.values().iter().map(|(value, span)| (value.to_string(), span.clone())).collect();
        assert_eq!(seen, [("metric.p:a".to_owned(), 0..10), ("metric.q:b/c".to_owned(), 14..26)]);
        assert_eq!(serde_json::to_value(&expression).unwrap(), "metric.p:a + (metric.q:b/c)");
    }
}
