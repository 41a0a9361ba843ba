//! Secrets that stand in a file.

use super::rule::Findings;
use super::view::View;
use pipe_document::{Layer, Node, Value};

/// How the tokens of well-known services begin, and how long they are at least.
const TOKENS: [(&str, usize); 13] = [
    ("ghp_", 36),
    ("gho_", 36),
    ("github_pat_", 40),
    ("glpat-", 26),
    ("hf_", 30),
    ("AKIA", 20),
    ("xoxb-", 24),
    ("xoxp-", 24),
    ("sk-proj-", 40),
    ("sk-ant-", 40),
    ("AIzaSy", 39),
    ("npm_", 36),
    ("pypi-", 40),
];

/// A token that stands in the text.
pub(super) fn plain(view: &View<'_>, found: &mut Findings) {
    let vars = view.document.vars().iter();
    for (_, entry) in view.document.root().iter().chain(vars) {
        walk(&entry.node, found);
    }
}

fn walk(node: &Node, found: &mut Findings) {
    match &node.value {
        Value::Table(table) => table.iter().for_each(|(_, entry)| walk(&entry.node, found)),
        Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
        // What came out of a variable or the command line does not stand here.
        Value::String(text)
            if is_token(text) && node.origin.ingredients.is_empty() && node.origin.layer != Layer::Set =>
        {
            let message = "this looks like a secret, and whoever gets the file can read it";
            let help =
                "take it from the environment: \"${env:NAME}\"; and have this one revoked if the file was shared";
            found.add(node.location.clone(), message, help);
        }
        _ => {}
    }
}

/// Whether a text is one word that looks like a token.
fn is_token(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let begins = TOKENS.iter().any(|(prefix, length)| text.starts_with(prefix) && text.len() >= *length);
    // Names of things have no capitals and digits among their small letters.
    let has = |kind: fn(&char) -> bool| text.chars().any(|c| kind(&c));
    let mixed = has(char::is_ascii_digit) && has(char::is_ascii_uppercase);
    begins && mixed && text.chars().all(word)
}
