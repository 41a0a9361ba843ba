//! From places in a decoded string to places in the file.

use toml_parser::decoder::Encoding;

/// Where each byte of a decoded string stands in its token: `offset` bytes into `decoded`, as an offset into `raw`.
///
/// `None` where the two do not fit together, as in a string with an error.
pub(super) fn raw_offset(raw: &str, decoded: &str, offset: usize) -> Option<usize> {
    let encoding = encoding_of(raw)?;
    let (quote, escapes) = match encoding {
        Encoding::LiteralString => (1, false),
        Encoding::BasicString => (1, true),
        Encoding::MlLiteralString => (3, false),
        Encoding::MlBasicString => (3, true),
    };
    let mut at = quote;
    if quote == 3 {
        // A line break right after the opening quotes is not part of the text.
        let body = raw.get(at..)?;
        at += if body.starts_with("\r\n") { 2 } else { usize::from(body.starts_with('\n')) };
    }
    let mut seen = 0;
    while seen < offset {
        let rest = raw.get(at..)?;
        if escapes && rest.starts_with('\\') {
            let (used, produced) = escape(rest)?;
            at += used;
            seen += produced;
        } else {
            let c = rest.chars().next()?;
            at += c.len_utf8();
            seen += c.len_utf8();
        }
        if seen > decoded.len() {
            return None;
        }
    }
    // Escaped line breaks produce nothing: step over those before the character that was asked for.
    while escapes && raw.get(at..)?.starts_with('\\') {
        match escape(raw.get(at..)?)? {
            (used, 0) => at += used,
            _ => break,
        }
    }
    (seen == offset).then_some(at)
}

fn encoding_of(raw: &str) -> Option<Encoding> {
    Some(match raw.as_bytes() {
        [b'"', b'"', b'"', ..] => Encoding::MlBasicString,
        [b'\'', b'\'', b'\'', ..] => Encoding::MlLiteralString,
        [b'"', ..] => Encoding::BasicString,
        [b'\'', ..] => Encoding::LiteralString,
        _ => return None,
    })
}

/// Bytes used by the escape at the start of `text`, and bytes of text that it stands for.
fn escape(text: &str) -> Option<(usize, usize)> {
    let kind = text[1..].chars().next()?;
    let digits = match kind {
        'u' => 4,
        'U' => 8,
        'x' => 2,
        ' ' | '\t' | '\r' | '\n' => {
            let space = text[1..].find(|c: char| !c.is_ascii_whitespace());
            return Some((1 + space.unwrap_or(text.len() - 1), 0));
        }
        _ => return Some((1 + kind.len_utf8(), 1)),
    };
    let code = u32::from_str_radix(text.get(2..2 + digits)?, 16).ok()?;
    Some((2 + digits, char::from_u32(code)?.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_in_strings_account_for_quotes_and_escapes() {
        let check = |raw: &str, decoded: &str, needle: &str| {
            let offset = decoded.find(needle).unwrap_or_default();
            let at = raw_offset(raw, decoded, offset).unwrap_or_default();
            assert_eq!(&raw[at..at + needle.len()], needle, "{raw}");
        };
        check("\"${x}\"", "${x}", "${x}");
        check("'a ${x}'", "a ${x}", "${x}");
        check("\"\\t\\\"é\\u00e9${x}\"", "\t\"éé${x}", "${x}");
        check("\"\\U0001F600 ${x}\"", "😀 ${x}", "${x}");
        check("\"\"\"\n  ${x}\"\"\"", "  ${x}", "${x}");
        check("\"\"\"a \\\n   ${x}\"\"\"", "a ${x}", "${x}");
        check("'''\r\n${x}'''", "${x}", "${x}");
        assert_eq!(raw_offset("bare", "bare", 1), None);
        assert_eq!(raw_offset("\"ab\"", "ab", 7), None);
    }
}
