//! Words for a shell, and other programs.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// A word as a POSIX shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Words as a line.
pub fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// What a program says.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot run `{program}`: is it on this machine?"))?;
    if !output.status.success() {
        bail!("`{program}` refused: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        let words = ["run", "a b", "it's", "", "optimizer.sgd.lr=0.1", "$HOME"];
        let line = line(words);
        assert_eq!(line, r#"run 'a b' 'it'\''s' '' optimizer.sgd.lr=0.1 '$HOME'"#);
        let said = said(Command::new("sh").args(["-c", &format!("printf '%s|' {line}")])).unwrap();
        assert_eq!(said, "run|a b|it's||optimizer.sgd.lr=0.1|$HOME|");
    }
}
