//! Wording shared by the checks.

use serde_json::Value as Json;

use pipe_document::Value;
use pipe_vocab::Kind;

/// Of longer lists only so many are told.
const MAX_LIST: usize = 50;

/// `a`, `b` and `c`, each in backquotes.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    let mut quoted: Vec<String> = names.iter().take(MAX_LIST).map(|name| format!("`{}`", name.as_ref())).collect();
    if names.len() > MAX_LIST {
        quoted.push(format!("{} more", names.len() - MAX_LIST));
    }
    join(&quoted, "and")
}

fn join<S: AsRef<str>>(parts: &[S], word: &str) -> String {
    match parts {
        [] => "none".into(),
        [only] => only.as_ref().into(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} {word} {}", first.join(", "), last.as_ref())
        }
    }
}

/// JSON types in words: "an integer or a string".
pub fn types<S: AsRef<str>>(types: &[S]) -> String {
    let words: Vec<&str> = types
        .iter()
        .map(|ty| match ty.as_ref() {
            "string" => "a string",
            "integer" => "an integer",
            "number" => "a number",
            "boolean" => "true or false",
            "array" => "an array",
            "object" => "a table",
            _ => "a value",
        })
        .collect();
    join(&words, "or")
}

/// The kinds in words: "a dataset or an engine".
pub fn kinds(kinds: &[Kind]) -> String {
    let words: Vec<String> = kinds.iter().map(|kind| kind.with_article()).collect();
    join(&words, "or")
}

/// A value in words: "the string `abc`".
pub fn found(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() <= 40 => format!("the string \"{text}\""),
        Value::String(_) => "a string".into(),
        Value::Integer(number) => format!("the integer {number}"),
        Value::Float(number) => format!("the number {number:?}"),
        Value::Boolean(flag) => format!("`{flag}`"),
        Value::Datetime(_) => "a date".into(),
        Value::Array(_) => "an array".into(),
        Value::Table(_) => "a table".into(),
    }
}

/// A number as written.
pub fn number(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        other => found(other),
    }
}

/// The bounds of a schema in words: "at least 0 and below 1".
pub fn range(schema: &Json) -> String {
    let mut parts = Vec::new();
    for (key, word) in
        [("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"), ("exclusiveMaximum", "below")]
    {
        if let Some(bound) = schema.get(key).and_then(Json::as_f64) {
            parts.push(format!("{word} {bound}"));
        }
    }
    if parts.is_empty() { "a number".into() } else { parts.join(" and ") }
}

/// How many elements are expected.
pub fn count(min: Option<usize>, max: Option<usize>) -> String {
    let elements = |n: usize| if n == 1 { "1 element".to_owned() } else { format!("{n} elements") };
    match (min, max) {
        (Some(min), Some(max)) if min == max => elements(min),
        (Some(min), Some(max)) => format!("{min} to {max} elements"),
        (Some(min), None) => format!("at least {}", elements(min)),
        (None, Some(max)) => format!("at most {}", elements(max)),
        (None, None) => "some elements".into(),
    }
}

/// What to do about a value of the wrong type, where that is plain.
pub fn type_help<S: AsRef<str>>(value: &Value, types: &[S]) -> Option<String> {
    let wants = |ty: &str| types.iter().any(|wanted| wanted.as_ref() == ty);
    match value {
        Value::String(text) if wants("number") || wants("integer") => {
            text.parse::<f64>().is_ok().then(|| format!("remove the quotes: {text}"))
        }
        Value::String(text) if wants("boolean") && (text == "true" || text == "false") => {
            Some(format!("remove the quotes: {text}"))
        }
        Value::String(text) if wants("array") => Some(format!("write an array: [\"{text}\"]")),
        Value::Integer(_) | Value::Float(_) if wants("string") => Some("put it in quotes".into()),
        Value::Float(number) if wants("integer") && number.fract() == 0.0 => Some(format!("write {number:.0}")),
        Value::Integer(0 | 1) if wants("boolean") => Some("write true or false".into()),
        _ => None,
    }
}

/// The first sentence of a documentation text.
pub fn first_line(text: &str) -> &str {
    text.split("\n\n").next().unwrap_or(text).split(". ").next().unwrap_or(text).trim_end_matches('.').trim()
}
