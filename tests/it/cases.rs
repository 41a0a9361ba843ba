//! The inputs after public bug reports that lie in `shared`, each with what must be seen.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use pipe_test_support::{python, shared, skip};

/// Cases whose script leaves the verdict to the reader: with what must be in its output. This one hides lines with `AR`, and so the
/// `WARN` that the image is turned.
const LOOKED_AT: [(&str, &str); 1] = [("19-annotated-upright-stored-sideways", "exit status 0")];

/// What is wrong with a case, as its own script sees it.
fn verdict(case: &Path, python: &Path) -> Result<(), String> {
    let run = Command::new("sh")
        .arg("run.sh")
        .current_dir(case)
        .env("PIPE", env!("CARGO_BIN_EXE_pipe"))
        .env("PY", python)
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    let name = case.file_name().unwrap_or_default().to_string_lossy();
    let looked_at = LOOKED_AT.iter().find(|(own, _)| *own == name).map(|(_, seen)| *seen);
    let mut verdicts = text.lines().filter(|line| line.starts_with("VERDICT")).peekable();
    let right = verdicts.peek().is_some()
        && verdicts.all(|line| match looked_at {
            Some(seen) if line.starts_with("VERDICT look") => text.contains(seen),
            _ => line.starts_with("VERDICT ok"),
        });
    if right { Ok(()) } else { Err(format!("{name}\n{text}")) }
}

#[test]
fn every_case_is_seen_as_it_must_be() {
    let (Some(folder), Some(python)) = (shared("cases"), python()) else {
        return skip!("`shared/cases` or the tests' Python is not there");
    };
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let cases: Mutex<Vec<PathBuf>> = Mutex::new(entries.filter(|path| path.join("run.sh").exists()).collect());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(case) = cases.lock().unwrap().pop() else { return };
                    wrong.lock().unwrap().extend(verdict(&case, &python).err());
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
