//! The grammar of variables in a string.
//!
//! | text | stands for |
//! |---|---|
//! | `${name}` | the value of `name` in `[vars]` |
//! | `${env:NAME}` | the environment variable, which must be set |
//! | `${env:NAME:-default}` | the same, or the default where it is unset or empty; the default may use variables itself |
//! | `$${` | the two characters `${` |

use std::ops::Range;

use crate::diagnostic::suggest;

/// Defaults in defaults go this deep.
const MAX_DEPTH: usize = 8;

/// A piece of a string. Spans are bytes of the string itself, without quotes and escapes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// As it is.
    Text(String),
    /// `${name}`.
    Variable { name: String, span: Range<usize> },
    /// `${env:NAME}`, with the default after `:-` if any.
    Environment { name: String, default: Option<Vec<Part>>, span: Range<usize> },
}

/// Why a string is not a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub code: &'static str,
    pub message: String,
    pub help: String,
    pub span: Range<usize>,
}

/// Whether the text has anything to replace.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("${")
}

/// The pieces of a string, or the first fault in it.
pub(super) fn parse(text: &str) -> Result<Vec<Part>, Fault> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.parts(0)
}

/// The names of the variables that a string uses.
pub(super) fn names(parts: &[Part], visit: &mut dyn FnMut(&str)) {
    for part in parts {
        match part {
            Part::Variable { name, .. } => visit(name),
            Part::Environment { default: Some(default), .. } => names(default, visit),
            _ => {}
        }
    }
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Pieces up to the end, or inside a default up to its `}`.
    fn parts(&mut self, depth: usize) -> Result<Vec<Part>, Fault> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        while let Some(c) = self.rest().chars().next() {
            if self.rest().starts_with("$${") {
                plain.push_str("${");
                self.at += 3;
            } else if self.rest().starts_with("${") {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(self.reference(depth)?);
            } else if depth > 0 && c == '}' {
                break;
            } else {
                plain.push(c);
                self.at += c.len_utf8();
            }
        }
        if !plain.is_empty() || parts.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(parts)
    }

    fn reference(&mut self, depth: usize) -> Result<Part, Fault> {
        let start = self.at;
        if depth >= MAX_DEPTH {
            let message = format!("defaults are nested deeper than {MAX_DEPTH}");
            return Err(fault("variable-name", message, "use a variable in between", start..self.text.len()));
        }
        self.at += 2;
        let environment = self.rest().starts_with("env:");
        self.at += if environment { 4 } else { 0 };
        let name_at = self.at;
        let stop = if environment { self.rest().find([':', '}', '$']) } else { self.rest().find(['}', '$']) };
        let Some(length) = stop else {
            return Err(self.unclosed(start));
        };
        self.at += length;
        let name = self.text[name_at..self.at].to_owned();
        let default = if environment && self.rest().starts_with(":-") {
            self.at += 2;
            Some(self.parts(depth + 1)?)
        } else {
            None
        };
        if self.rest().starts_with('$') {
            return Err(self.unclosed(start));
        }
        if !self.rest().starts_with('}') {
            if self.rest().is_empty() {
                return Err(self.unclosed(start));
            }
            let help = "a default follows `:-`, as in ${env:NAME:-default}";
            return Err(fault("variable-name", "unexpected `:` after the name", help, self.at..self.at + 1));
        }
        self.at += 1;
        let span = start..self.at;
        check_name(&name, environment, name_at)?;
        Ok(if environment { Part::Environment { name, default, span } } else { Part::Variable { name, span } })
    }

    fn unclosed(&self, start: usize) -> Fault {
        let help = "close it with `}`; for the characters themselves, write `$${`";
        fault("variable-unclosed", "this `${` is never closed", help, start..start + 2)
    }
}

fn fault(code: &'static str, message: impl Into<String>, help: impl Into<String>, span: Range<usize>) -> Fault {
    Fault { code, message: message.into(), help: help.into(), span }
}

fn check_name(name: &str, environment: bool, at: usize) -> Result<(), Fault> {
    let fine = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(fine) {
        return Ok(());
    }
    let span = at..at + name.len();
    if name.is_empty() {
        let help = if environment { "write ${env:NAME}" } else { "write ${name}, with a name of [vars]" };
        return Err(fault("variable-name", "a name is missing", help, at..at + 1));
    }
    let help = match name.split_once(":-") {
        Some((before, after)) => {
            format!("only the environment has defaults: ${{env:{before}:-{after}}}")
        }
        None => match name.split_once(':') {
            Some((prefix, rest)) if suggest(prefix, ["env"]).is_some() => {
                format!("write ${{env:{rest}}}")
            }
            _ => "names consist of letters, digits, `_` and `-`".to_owned(),
        },
    };
    Err(fault("variable-name", format!("`{name}` is not a valid variable name"), help, span))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> String {
        let show = |part: &Part| match part {
            Part::Text(text) => format!("'{text}'"),
            Part::Variable { name, span } => format!("{name}@{}-{}", span.start, span.end),
            Part::Environment { name, default: None, .. } => format!("env {name}"),
            Part::Environment { name, default: Some(parts), .. } => format!("env {name} or {parts:?}"),
        };
        match parse(text) {
            Ok(parts) => parts.iter().map(show).collect::<Vec<_>>().join(" "),
            Err(fault) => format!("{} at {}-{}", fault.code, fault.span.start, fault.span.end),
        }
    }

    #[test]
    fn pieces() {
        assert_eq!(shape(""), "''");
        assert_eq!(shape("plain $ {text}"), "'plain $ {text}'");
        assert_eq!(shape("${a}"), "a@0-4");
        assert_eq!(shape("x${a}y${b-c}"), "'x' a@1-5 'y' b-c@6-12");
        assert_eq!(shape("$${a}"), "'${a}'");
        assert_eq!(shape("$$${a}"), "'$${a}'");
        assert_eq!(shape("${env:HOME}"), "env HOME");
        assert_eq!(shape("${env:A:-}"), "env A or [Text(\"\")]");
        assert_eq!(shape("${env:A:-x/${b}}/c"), "env A or [Text(\"x/\"), Variable { name: \"b\", span: 11..15 }] '/c'");
    }

    #[test]
    fn faults() {
        assert_eq!(shape("ab ${x"), "variable-unclosed at 3-5");
        assert_eq!(shape("${x ${y}"), "variable-unclosed at 0-2");
        assert_eq!(shape("${env:X:-abc"), "variable-unclosed at 0-2");
        assert_eq!(shape("${}"), "variable-name at 2-3");
        assert_eq!(shape("${env:}"), "variable-name at 6-7");
        assert_eq!(shape("${a b}"), "variable-name at 2-5");
        assert_eq!(shape("${a:-b}"), "variable-name at 2-6");
        assert_eq!(shape("${env:A:b}"), "variable-name at 7-8");
        assert!(shape(&"${env:A:-".repeat(1000)).starts_with("variable-name"));
    }
}
