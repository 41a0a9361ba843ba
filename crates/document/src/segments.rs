//! Where a file may be cut, so that one mistake does not swallow the tables after it.

use toml_parser::lexer::{Token, TokenKind};

/// Where to cut a file so that an unclosed bracket does not swallow the tables after it: the ends of the segments, as
/// indices of tokens.
///
/// A line that starts, unindented, like a table header, or inside an array like `key =`, cannot be part of a value. Cutting
/// there outside a value changes nothing.
pub(super) fn segments(text: &str, tokens: &[Token]) -> Vec<usize> {
    let mut open: Vec<TokenKind> = Vec::new();
    let mut cuts = Vec::new();
    let mut fresh_line = true;
    for (index, token) in tokens.iter().enumerate() {
        if fresh_line && !open.is_empty() {
            let in_array = open.last() == Some(&TokenKind::LeftSquareBracket);
            let rest = &tokens[index..];
            if looks_like_header(text, rest) || (in_array && looks_like_key_value(text, rest)) {
                cuts.push(index);
                open.clear();
            }
        }
        fresh_line = token.kind() == TokenKind::Newline;
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => open.push(token.kind()),
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                open.pop();
            }
            _ => {}
        }
    }
    cuts.push(tokens.len());
    cuts
}

fn looks_like_header(text: &str, tokens: &[Token]) -> bool {
    let mut rest = tokens;
    let opened = skip(&mut rest, TokenKind::LeftSquareBracket);
    if opened == 0 || opened > 2 || !skip_name(text, &mut rest) {
        return false;
    }
    let closed = skip(&mut rest, TokenKind::RightSquareBracket);
    skip(&mut rest, TokenKind::Whitespace);
    let ended = rest
        .first()
        .is_none_or(|token| matches!(token.kind(), TokenKind::Newline | TokenKind::Comment | TokenKind::Eof));
    closed == opened && ended
}

fn looks_like_key_value(text: &str, tokens: &[Token]) -> bool {
    let mut rest = tokens;
    skip_name(text, &mut rest) && {
        skip(&mut rest, TokenKind::Whitespace);
        skip(&mut rest, TokenKind::Equals) == 1
    }
}

/// Skips a dotted name of bare words that could not be values; whether there was one.
fn skip_name(text: &str, rest: &mut &[Token]) -> bool {
    let mut names = 0;
    while let Some(token) = rest.first().filter(|token| token.kind() == TokenKind::Atom) {
        let word = &text[token.span().start()..token.span().end()];
        let value = matches!(word, "true" | "false" | "inf" | "nan");
        if value || (names == 0 && !word.starts_with(|c: char| c.is_alphabetic() || c == '_')) {
            return false;
        }
        names += 1;
        *rest = &rest[1..];
        if skip(rest, TokenKind::Dot) == 0 {
            break;
        }
    }
    names > 0
}

fn skip(rest: &mut &[Token], kind: TokenKind) -> usize {
    let count = rest.iter().take_while(|token| token.kind() == kind).count();
    *rest = &rest[count..];
    count
}
