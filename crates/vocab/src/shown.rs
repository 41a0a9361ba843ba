//! Text of unknown origin, made fit for a terminal or a log.

use std::borrow::Cow;

/// The text with its control characters written out, such as `\u{1b}`, so that it cannot steer a terminal: the controls
/// of ASCII and Latin-1, and the marks that turn the direction of writing. Line ends and tabs stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    replaced(text, |c, _| steers(c) && !is_layout(c), escaped)
}

/// As [`shown`], for a name inside a line: line ends and tabs are written out too.
pub fn shown_name(text: &str) -> Cow<'_, str> {
    replaced(text, |c, _| steers(c), escaped)
}

/// As [`shown_data`], for text that the program has styled, and logs, which may be JSON: colours and weights (`ESC [ … m`) stay.
pub fn shown_styled(text: &str) -> Cow<'_, str> {
    let is_style = |rest: &str| {
        let rest =
            rest.strip_prefix("\u{1b}[").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
        rest.is_some_and(|rest| rest.starts_with('m'))
    };
    replaced(text, |c, rest| steers(c) && !is_layout(c) && !is_style(rest), as_data)
}

/// As [`shown`], for JSON and TOML, where such characters stand in strings only: they are written as those languages write
/// them, `\u001b`.
pub fn shown_data(text: &str) -> Cow<'_, str> {
    replaced(text, |c, _| steers(c) && !is_layout(c), as_data)
}

fn is_layout(c: char) -> bool {
    matches!(c, '\n' | '\t')
}

fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn as_data(c: char) -> String {
    format!("\\u{:04x}", u32::from(c))
}

fn escaped(c: char) -> String {
    c.escape_unicode().to_string()
}

/// `wanted` sees a character, and the text from it on.
fn replaced(text: &str, wanted: impl Fn(char, &str) -> bool, written: fn(char) -> String) -> Cow<'_, str> {
    let mut out = String::new();
    let mut kept = 0;
    for (at, c) in text.char_indices().filter(|(at, c)| wanted(*c, &text[*at..])) {
        out.push_str(&text[kept..at]);
        out.push_str(&written(c));
        kept = at + c.len_utf8();
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[kept..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        let attack = "cat\u{1b}]0;title\u{7}\u{9b}31m\r\nline\tend\u{202e}\u{7f}";
        assert_eq!(
            shown(attack),
            r"cat\u{1b}]0;title\u{7}\u{9b}31m\u{d}".to_owned() + "\nline\tend" + r"\u{202e}\u{7f}"
        );
        assert_eq!(shown_name("a\nb"), r"a\u{a}b");
        assert_eq!(shown_data("\"\u{9b}\""), r#""\u009b""#);
        assert!(matches!(shown("Größe 日本 🦀"), Cow::Borrowed(_)));
    }

    #[test]
    fn styles_of_the_program_stay() {
        let text = "\u{1b}[1;31merror\u{1b}[0m \u{1b}[2J \u{1b}]0;x\u{7}";
        assert_eq!(shown_styled(text), "\u{1b}[1;31merror\u{1b}[0m ".to_owned() + r"\u001b[2J \u001b]0;x\u0007");
    }
}
