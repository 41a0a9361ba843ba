//! Errors in words for people.

use pipe_vocab::shown::shown;

/// A text without the backtrace that libtorch puts into its errors, and without characters that steer a terminal.
pub fn plain(text: &str) -> String {
    let backtrace = |line: &&str| line.starts_with("Exception raised from ") || line.starts_with("frame #");
    let lines: Vec<&str> = text.lines().filter(|line| !backtrace(line)).collect();
    shown(lines.join("\n").trim_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn backtraces_go() {
        let text = "layer 7: mat1 and mat2\nException raised from meta at x.cpp:195 (most recent call first):\nframe #0: a\nframe #12: b\n\n";
        assert_eq!(plain(text), "layer 7: mat1 and mat2");
        assert_eq!(plain("two\nlines"), "two\nlines");
    }
}
