//! Errors of syntax in the words of `toml_parser`, told to people.

use toml_parser::{Expected, ParseError, Span};

use crate::diagnostic::{Diagnostic, Location, SourceId};

/// The diagnostic for an error of syntax in `text`.
pub(super) fn diagnostic(error: &ParseError, text: &str, source: SourceId) -> Diagnostic {
    let place = |span: Span| {
        let end = span.end().min(text.len());
        Location::new(source, span.start().min(end)..end)
    };
    let open_text = is_open_text(error);
    let opening = error.context().filter(|_| open_text);
    let at = opening.or(error.unexpected()).or(error.context()).map(place);
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

/// The one thing to say of a file in another language.
pub(super) fn foreign(text: &str, source: SourceId) -> Option<Diagnostic> {
    let said = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#') && line.trim() != "---";
    let lines = || text.lines().filter(said);
    let first = lines().next()?;
    let start = first.as_ptr() as usize - text.as_ptr() as usize;
    let toml = |line: &str| line.contains('=') || line.trim_start().starts_with('[') && line.trim_end().ends_with(']');
    let yaml = |line: &str| {
        let key = line.trim_start().trim_start_matches("- ").split_once(':').map(|(key, rest)| (key.trim(), rest));
        let word = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        key.is_some_and(|(key, rest)| {
            key.chars().all(word) && !key.is_empty() && (rest.is_empty() || rest.starts_with(' '))
        })
    };
    let language = if first.trim_start().starts_with('{') {
        "JSON"
    } else if yaml(first) && !lines().any(toml) {
        "YAML"
    } else {
        return None;
    };
    let at = Location::new(source, start..start + first.len());
    let help = "write `[pipeline]` above `name = \"…\"`, and each node as `[kind.name]`: `pipe new DIR` makes a pipeline to begin with";
    Some(Diagnostic::error("syntax", format!("this is {language}, and pipelines are TOML")).at(at).help(help))
}

fn explain(error: &ParseError, word: &str) -> (String, Option<String>) {
    let description = error.description();
    match description {
        _ if is_open_text(error) => {
            let quote = if description.contains("literal") { "'" } else { "\"" };
            let quote = quote.repeat(if description.contains("multi-line") { 3 } else { 1 });
            ("a string is never closed".to_owned(), Some(format!("close it with {quote}")))
        }
        "string values must be quoted" if word.contains(' ') => two_on_a_line(),
        "unexpected key or value" => two_on_a_line(),
        "string values must be quoted" => unquoted(word),
        "invalid float" | "invalid boolean" if word.starts_with(char::is_alphabetic) => unquoted(word),
        "invalid mantissa" => {
            let help = "write 0.9 for .9 and 1.0 for 1.";
            ("a number needs digits on both sides of the decimal point".to_owned(), Some(help.to_owned()))
        }
        "missing escaped value" => {
            let help = "write `\\\\` for a backslash, or put the string in single quotes";
            ("invalid escape sequence after this backslash".to_owned(), Some(help.to_owned()))
        }
        "missing value" => {
            let help = "write a value after `=`, or remove the key";
            ("the key has no value".to_owned(), Some(help.to_owned()))
        }
        "key with no value" | "missing value for key" => {
            let help = "write `key = value`, one per line";
            ("the key has no `=` and no value".to_owned(), Some(help.to_owned()))
        }
        "invalid unquoted key" => {
            let help = "bare keys consist of letters, digits, `_` and `-`; put quotes around any other";
            ("this character is not allowed in a key without quotes".to_owned(), Some(help.to_owned()))
        }
        "unquoted keys cannot be empty" => ("a key is missing here".to_owned(), None),
        "cannot recurse further; max recursion depth met" => {
            (format!("nested deeper than {} levels", super::limits::MAX_DEPTH), None)
        }
        _ => (with_expected(error), None),
    }
}

/// Whether a string ran into the end of its line or of the file.
fn is_open_text(error: &ParseError) -> bool {
    let quoted = |one: &Expected| matches!(one, Expected::Literal("\"" | "'" | "\"\"\"" | "'''"));
    error.description().ends_with("string") && error.expected().is_some_and(|all| all.iter().any(quoted))
}

fn two_on_a_line() -> (String, Option<String>) {
    let help = "write one `key = value` per line";
    ("there is more on the line than one value".to_owned(), Some(help.to_owned()))
}

/// Whether an error follows from any other on the same line.
pub(super) fn is_consequence(error: &ParseError) -> bool {
    error.description() == "unexpected key or value"
}

/// Bare words as values are mostly strings without quotes, or the constants of another language.
fn unquoted(word: &str) -> (String, Option<String>) {
    let lower = word.to_ascii_lowercase();
    let help = match lower.as_str() {
        "true" | "yes" | "on" => "write `true`".to_owned(),
        "false" | "no" | "off" => "write `false`".to_owned(),
        "none" | "null" | "nil" => {
            "TOML has no null: remove the key to leave it at its default; a key that a parent sets is removed by \
             unset = [\"KIND.NAME.KEY\"] at the top"
                .to_owned()
        }
        _ if lower.starts_with('$') => "put quotes around it: \"${name}\"".to_owned(),
        _ if word.contains(['"', '\n', '\\']) || word.len() > 60 => "put quotes around it".to_owned(),
        _ => format!("put quotes around it: \"{word}\""),
    };
    ("a string needs quotes around it".to_owned(), Some(help))
}

fn with_expected(error: &ParseError) -> String {
    let mut message = error.description().to_owned();
    let expected = error.expected().unwrap_or_default();
    let words = expected.iter().filter_map(|one| match one {
        Expected::Literal("\n") => Some("a line break".to_owned()),
        Expected::Literal(text) => Some(format!("`{text}`")),
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
