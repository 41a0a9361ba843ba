//! Errors of syntax in the words of `toml_parser`, told to people.

use toml_parser::{Expected, ParseError, Span};

use crate::diagnostic::{Diagnostic, Location, SourceId};

/// The diagnostic for an error of syntax in `text`.
pub(super) fn diagnostic(error: &ParseError, text: &str, source: SourceId) -> Diagnostic {
    let place = |span: Span| {
        let end = span.end().min(text.len());
        Location::new(source, span.start().min(end)..end)
    };
    let at = error.unexpected().or(error.context()).map(place);
    let at = at.unwrap_or_else(|| Location::new(source, 0..0));
    let word = text.get(at.span.clone()).unwrap_or_default();
    let (message, help) = explain(error, word);
    let mut diagnostic = Diagnostic::error("syntax", message).at(at).maybe_help(help);
    if error.description().starts_with("unclosed")
        && let Some(context) = error.context()
    {
        diagnostic = diagnostic.label(place(context), "opened here");
    }
    diagnostic
}

fn explain(error: &ParseError, word: &str) -> (String, Option<String>) {
    let description = error.description();
    match description {
        "string values must be quoted" => unquoted(word),
        "missing value" => {
            let help = "write a value after `=`, or remove the key";
            ("the key has no value".to_owned(), Some(help.to_owned()))
        }
        "key with no value" | "missing value for key" => {
            let help = "write `key = value`, one a line";
            ("the key has no `=` and no value".to_owned(), Some(help.to_owned()))
        }
        "invalid unquoted key" => {
            let help = "keys are made of letters, digits, `_` and `-`; put quotes around any other";
            ("this character cannot be in a key without quotes".to_owned(), Some(help.to_owned()))
        }
        "unquoted keys cannot be empty" => ("a key is missing here".to_owned(), None),
        "cannot recurse further; max recursion depth met" => {
            (format!("nested deeper than {} levels", super::parse::MAX_DEPTH), None)
        }
        _ => (with_expected(error), None),
    }
}

/// Bare words as values are mostly strings without quotes, or the constants of another language.
fn unquoted(word: &str) -> (String, Option<String>) {
    let lower = word.to_ascii_lowercase();
    let help = match lower.as_str() {
        "true" | "yes" | "on" => "write `true`".to_owned(),
        "false" | "no" | "off" => "write `false`".to_owned(),
        "none" | "null" | "nil" => "TOML has no null: remove the key to leave it at its default".to_owned(),
        _ if word.contains(['"', '\n', '\\']) || word.len() > 60 => "put quotes around it".to_owned(),
        _ => format!("put quotes around it: \"{word}\""),
    };
    ("a text needs quotes around it".to_owned(), Some(help))
}

fn with_expected(error: &ParseError) -> String {
    let mut message = error.description().to_owned();
    let expected = error.expected().unwrap_or_default();
    let words = expected.iter().filter_map(|one| match one {
        Expected::Literal("\n") => Some("a line break".to_owned()),
        Expected::Literal(text) => Some(format!("`{}`", text.escape_debug())),
        Expected::Description(text) => Some((*text).to_owned()),
        _ => None,
    });
    let words = words.collect::<Vec<_>>().join(" or ");
    if !words.is_empty() {
        message.push_str(": expected ");
        message.push_str(&words);
    }
    message
}
