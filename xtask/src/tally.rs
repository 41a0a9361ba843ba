//! The sum of the tests: how many passed, failed and were skipped, over all crates.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result};

/// Names a file to which a test that cannot run here adds the line `skipped: NAME: REASON`. It then passes.
const SKIPS: &str = "PIPE_TEST_SKIPS";

/// The sum of what has ended.
pub(crate) struct Sum {
    skips: Skips,
    tally: Tally,
    /// What to say of those that did not end well.
    failed: Vec<String>,
}

impl Sum {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { skips: Skips::new()?, tally: Tally::default(), failed: Vec::new() })
    }

    /// The file for lines of skipped tests.
    pub(crate) fn skips(&self) -> &Path {
        &self.skips.0
    }

    /// Tells a command that runs tests where that file is.
    pub(crate) fn tell(tests: &mut Command, skips: &Path) {
        tests.env(SKIPS, skips);
    }

    /// Adds what a command that ran tests said, and how it ended.
    pub(crate) fn add(&mut self, name: &str, output: &str, status: ExitStatus) {
        let failed = self.tally.failed;
        self.tally.program();
        output.lines().for_each(|line| self.tally.line(line.trim_end()));
        if !status.success() {
            let early = if self.tally.failed == failed {
                ", and no test of it failed: something was not built, or it ended early, which is told above"
            } else {
                ""
            };
            self.failed.push(format!("error: {name} failed ({status}){early}"));
        }
    }

    /// Prints the sum. The status says whether all ended well.
    pub(crate) fn finish(mut self) -> Result<ExitCode> {
        self.tally.skip(&self.skips.read()?);
        self.failed.iter().for_each(|line| eprintln!("{line}"));
        print!("{}", self.tally.report());
        Ok(if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What was counted so far.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    /// Tests that passed without having run, by name.
    skipped: BTreeSet<String>,
    /// Tests that cargo left out.
    ignored: u64,
    /// One line for each of both.
    said: BTreeSet<String>,
    /// How many tests the program at work has.
    expected: Option<u64>,
    in_failures: bool,
}

impl Tally {
    /// Begins with the output of another program.
    fn program(&mut self) {
        (self.expected, self.in_failures) = (None, false);
    }

    /// One line of the output. The output of a failed test may hold that of a cargo it ran: only the result that fits the
    /// number of tests counts.
    fn line(&mut self, line: &str) {
        if line == "failures:" {
            self.in_failures = true;
        } else if let Some(rest) = line.strip_prefix("running ").filter(|_| !self.in_failures) {
            let count = rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test"));
            self.expected = count.and_then(|count| count.parse().ok()).or(self.expected);
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.result(result);
        } else if let Some(test) = line.strip_prefix("test ").filter(|_| !self.in_failures) {
            self.test(test);
        }
    }

    fn result(&mut self, result: &str) {
        let number = |what: &str| -> u64 {
            let before = result.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
            before.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        let (passed, failed) = (number(" passed"), number(" failed"));
        let all = passed + failed + number(" ignored") + number(" measured");
        if self.expected.is_none_or(|expected| expected == all) {
            self.passed += passed;
            self.failed += failed;
            self.expected = None;
            self.in_failures = false;
        }
    }

    /// A test that is ignored counts as skipped, unless another test runs it.
    fn test(&mut self, test: &str) {
        if let Some((name, outcome)) = test.split_once(" ... ")
            && let Some(reason) = outcome.strip_prefix("ignored")
        {
            let reason = reason.trim_start_matches([',', ' ']);
            if !reason.starts_with("run by ") {
                let reason = if reason.is_empty() { "ignored" } else { reason };
                self.ignored += 1;
                self.said.insert(format!("skipped: {name}: {reason}"));
            }
        }
    }

    /// What tests said that could not run here.
    fn skip(&mut self, text: &str) {
        for line in text.lines() {
            if let Some((name, _)) = line.strip_prefix("skipped: ").and_then(|rest| rest.split_once(": ")) {
                self.skipped.insert(name.to_owned());
                self.said.insert(line.to_owned());
            }
        }
    }

    fn report(&self) -> String {
        let skipped = self.skipped.len() as u64;
        let all = skipped + self.ignored;
        let mut text = String::from("\n");
        if all > 0 {
            text += &format!("{all} {} skipped:\n", if all == 1 { "test was" } else { "tests were" });
            self.said.iter().for_each(|line| text += &format!("{line}\n"));
            text += "\n";
        }
        // A test that says it was skipped has passed for cargo.
        text + &format!("{} passed, {} failed, {all} skipped\n", self.passed.saturating_sub(skipped), self.failed)
    }
}

/// The file for lines of skipped tests, removed at the end.
struct Skips(PathBuf);

impl Skips {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("pipe-test-skips-{}", std::process::id()));
        // Left by a run that was killed and had the same number.
        let _ = fs::remove_file(&path);
        fs::File::create_new(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    fn read(&self) -> Result<String> {
        let Self(path) = self;
        fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
    }
}

impl Drop for Skips {
    fn drop(&mut self) {
        let _ = fs::remove_file(Path::new(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str, skips: &str) -> String {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.line(line));
        tally.skip(skips);
        tally.report()
    }

    #[test]
    fn results_of_all_programs_are_added_up() {
        let output = "
running 3 tests
test a::one ... ok
test a::two ... FAILED
test a::alone ... ignored, run by two

failures:

---- a::two stdout ----

running 1 test
test inner ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

failures:
    a::two

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.23s


running 4 tests
test b::three ... ok
test b::four ... ok
test b::five ... ignored
test src/lib.rs - f (line 3) ... ok

test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let skips = "skipped: b::four: no ../shared\nskipped: b::four: no ../shared\n";
        let expected = "
2 tests were skipped:
skipped: b::five: ignored
skipped: b::four: no ../shared

3 passed, 1 failed, 2 skipped
";
        assert_eq!(tally(output, skips), expected);
    }

    #[test]
    fn without_skips_there_is_one_line() {
        let output = "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(tally(output, ""), "\n1 passed, 0 failed, 0 skipped\n");
    }

    #[test]
    fn a_program_that_ends_early_spoils_no_other_count() {
        let output = "running 5 tests\ntest a ... ok\n\nrunning 1 test\ntest b ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert_eq!(tally(output, ""), "\n1 passed, 0 failed, 0 skipped\n");
    }

    #[cfg(unix)]
    #[test]
    fn the_status_is_the_tests_own_and_they_are_told_the_file() {
        for (status, success) in [(0, true), (101, false)] {
            let mut sum = Sum::new().unwrap();
            let mut tests = Command::new("sh");
            tests.args(["-c", &format!("echo \"skipped: a: b\" >> \"${SKIPS}\"; exit {status}")]);
            Sum::tell(&mut tests, sum.skips());
            sum.add("a", "running 1 test\n", tests.status().unwrap());
            // The next program's count is its own, although the first told no result.
            sum.add("b", "test result: ok. 2 passed; 0 failed\n", Command::new("true").status().unwrap());
            assert_eq!(sum.skips.read().unwrap(), "skipped: a: b\n");
            assert_eq!((sum.failed.len(), sum.tally.passed), (usize::from(!success), 2));
            assert_eq!(sum.finish().unwrap() == ExitCode::SUCCESS, success);
        }
    }
}
