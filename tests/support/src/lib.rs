//! What the tests of all crates share.
//!
//! A test that cannot run on this machine says so with [`skip!`] and returns; `cargo xtask test` counts these and prints why.

pub mod browser;
pub mod http;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Names the file to which skips are appended, see [`skip`].
pub const SKIPS: &str = "PIPE_TEST_SKIPS";

/// Says that the test this stands in cannot run here: `skip!("there is no {}", what)`. Takes what `format!` takes.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        fn here() {}
        $crate::skip(&$crate::test_of(std::any::type_name_of_val(&here)), &format!($($reason)+))
    }};
}

/// Says that a test cannot run here: prints `skipped: TEST: REASON`, and appends the same line to the file named by the
/// environment variable `PIPE_TEST_SKIPS`, where it is set.
///
/// # Panics
/// When that file cannot be written.
pub fn skip(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {}\n", reason.replace('\n', " "));
    eprint!("{line}");
    if let Some(file) = std::env::var_os(SKIPS) {
        append(Path::new(&file), &line);
    }
}

/// One write: tests on other threads and in other processes append to the same file.
fn append(file: &Path, line: &str) {
    let opened = OpenOptions::new().append(true).create(true).open(file);
    let written = opened.and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("{SKIPS} names {}: {error}", file.display()));
}

/// The name of a test from that of a function inside it.
#[doc(hidden)]
pub fn test_of(inner: &str) -> String {
    inner.trim_end_matches("::here").replace("::{{closure}}", "")
}

/// A file or folder under `shared`, which lies beside the repository or beside a folder that holds it: data too large or too
/// foreign for the repository.
pub fn shared(path: &str) -> Option<PathBuf> {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    folders.map(|folder| folder.join("shared").join(path)).find(|found| found.exists())
}

/// The Python that `PIPE_TEST_PYTHON` names: `cargo xtask test` gives one with TensorBoard and jsonschema.
pub fn python() -> Option<PathBuf> {
    std::env::var_os("PIPE_TEST_PYTHON").map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_a_line_of_the_file_named_by_the_test() {
        fn here() {}
        assert_eq!(
            test_of(std::any::type_name_of_val(&here)),
            "pipe_test_support::tests::a_skip_is_a_line_of_the_file_named_by_the_test"
        );
        assert_eq!(test_of("it::a::b::{{closure}}::here"), "it::a::b");
        let file = std::env::temp_dir().join(format!("pipe-test-support-{}", std::process::id()));
        append(&file, "skipped: a: b\n");
        append(&file, "skipped: c: d\n");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(text, "skipped: a: b\nskipped: c: d\n");
    }

    #[test]
    fn what_is_not_shared_is_not_found() {
        assert_eq!(shared("there-is-no-such-file"), None);
    }
}
