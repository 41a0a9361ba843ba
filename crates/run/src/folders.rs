//! Where runs are stored: `<root>/<pipeline>/<time>`; which there are, and whether a folder is free for a new one.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

use pipe_core::now;
use pipe_vocab::atomic;

use crate::info::{self, Status};
use crate::lock::{Lock, Refused};

/// A run that lies in a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its folder.
    pub folder: PathBuf,
    /// When it was created, in seconds since 1970.
    pub created: f64,
    /// How it stands.
    pub status: Status,
}

/// The run in a folder, if there is one.
pub fn find(folder: &Path) -> Option<Found> {
    let status = info::status(folder)?;
    Some(Found { folder: folder.to_owned(), created: info::created(&info::read(folder)), status })
}

/// The runs under `root` of the pipeline `name`, the newest first: by the time at which they were created, whatever their
/// folders are called.
///
/// # Errors
/// [`Refused`] when a folder cannot have that name.
pub fn runs(root: &Path, name: &str) -> Result<Vec<Found>> {
    let entries = std::fs::read_dir(below(root, name)?).into_iter().flatten().flatten();
    // Others may have been put there with `--out`.
    let of_name = |folder: &PathBuf| match info::read(folder).get("name") {
        Some(Value::String(own)) => own == name,
        _ => true,
    };
    let mut runs: Vec<Found> =
        entries.map(|entry| entry.path()).filter(of_name).filter_map(|folder| find(&folder)).collect();
    runs.sort_by(|a, b| b.created.total_cmp(&a.created).then_with(|| counted(&b.folder).cmp(&counted(&a.folder))));
    Ok(runs)
}

/// The time and the number of a folder that was named by [`new_folder`], to be compared: `_10` comes after `_9`.
fn counted(folder: &Path) -> (String, u32) {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let number = |number: &str| number.parse().ok().filter(|_| number.len() < 6);
    match name.rsplit_once('_').and_then(|(start, end)| Some((start.to_owned(), number(end)?))) {
        Some(counted) => counted,
        None => (name, 0),
    }
}

/// The folder of the runs of the pipeline `name`.
fn below(root: &Path, name: &str) -> Result<PathBuf> {
    let plain = !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let said =
        || format!("the pipeline's name {name:?} cannot be the name of a folder: change `name`, or give `--out`");
    if plain { Ok(root.join(name)) } else { Err(Refused(said()).into()) }
}

/// When a run that begins now counts as created, in seconds since 1970: never before one that lies beside it, so that a clock
/// that was set back changes no order.
pub fn creation(beside: &Path) -> f64 {
    let beside = if beside.as_os_str().is_empty() { Path::new(".") } else { beside };
    let entries = std::fs::read_dir(beside).into_iter().flatten().flatten();
    let latest = entries.map(|entry| info::created(&info::read(&entry.path()))).fold(0.0, f64::max);
    now().max(latest + 1e-3)
}

/// A new folder for a run of the pipeline `name` under `root`: `<root>/<name>/<date>_<time>`, counted up where it is taken.
///
/// # Errors
/// When the folder cannot be created.
pub fn new_folder(root: &Path, name: &str) -> Result<PathBuf> {
    let base = below(root, name)?;
    std::fs::create_dir_all(&base).with_context(|| format!("cannot create {}", base.display()))?;
    let stamp = stamp(creation(&base));
    for attempt in 0u32.. {
        let candidate = base.join(if attempt == 0 { stamp.clone() } else { format!("{stamp}_{attempt}") });
        match std::fs::create_dir(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", candidate.display())),
        }
    }
    unreachable!("the loop ends only by returning")
}

/// `20261123_184500`, in UTC, of seconds since 1970.
fn stamp(time: f64) -> String {
    let time = Timestamp::from_second(time as i64).unwrap_or_else(|_| Timestamp::now());
    time.strftime("%Y%m%d_%H%M%S").to_string()
}

/// Takes a folder for a new run, and makes it where there is none.
///
/// # Errors
/// [`Refused`] when it holds a run or other files, or is another process's; others when it cannot be written.
pub fn take_new(folder: &Path) -> Result<Lock> {
    // One that is at work refuses by its lock.
    if info::status(folder) != Some(Status::Running) {
        free(folder)?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the run's folder {}", folder.display()))?;
    }
    let lock = Lock::take(folder)?;
    // Again: another process may have come and gone.
    free(folder).map(|()| lock)
}

/// What a run makes before its `run.json`.
const BEGUN: [&str; 2] = ["console.log", "records.jsonl"];

/// Whether a folder has nothing in it that a new run would be mixed up with.
fn free(folder: &Path) -> Result<()> {
    let shown = folder.display();
    if let Some(status) = info::status(folder) {
        return Err(Refused(format!(
            "{shown} holds a run already ({status}): go on with it by `--resume {shown}`, or give another folder with `--out`"
        ))
        .into());
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // Beside a lock: of a run that was killed before it could write its `run.json`.
    let begun: &[&str] = if Lock::FILES.iter().any(|own| folder.join(own).exists()) { &BEGUN } else { &[] };
    let left = |name: &OsString| !begun.is_empty() && atomic::is_leftover(name);
    // Its job's, where it was submitted.
    let submitted = [pipe_submit::job::OWN];
    let is_own =
        |name: &OsString| Lock::FILES.iter().chain(begun).chain(&submitted).any(|own| name == own) || left(name);
    let mut names: Vec<OsString> = entries.map(|entry| entry.file_name()).filter(|name| !is_own(name)).collect();
    names.sort();
    let Some(first) = names.first() else { return Ok(()) };
    let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
    let first = first.to_string_lossy();
    Err(Refused(format!(
        "{shown} has files that are no run's ({first}{more}): give a folder with `--out` that is new or empty"
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(folder: &Path, info: Value) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("run.json"), info.to_string()).unwrap();
    }

    fn names(runs: &[Found]) -> Vec<String> {
        runs.iter().map(|run| run.folder.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_order_is_that_of_creation_and_other_pipelines_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("a");
        run(&base.join("z"), json!({ "status": "done", "name": "a", "created": 1.0 }));
        run(&base.join("20261123_184500_9"), json!({ "status": "done", "name": "a", "created": 2.0 }));
        run(&base.join("20261123_184500_10"), json!({ "status": "failed", "name": "a", "created": 2.0 }));
        run(&base.join("b"), json!({ "status": "done", "name": "b", "created": 9.0 }));
        // A run from before there was `created`, resumed since.
        run(&base.join("old"), json!({ "status": "done", "started": 8.0, "earlier": [{ "started": 0.5 }] }));
        std::fs::create_dir(base.join("nothing")).unwrap();
        let runs = runs(root.path(), "a").unwrap();
        assert_eq!(names(&runs), ["20261123_184500_10", "20261123_184500_9", "z", "old"]);
        assert_eq!(runs[0].status, Status::Failed);
    }

    #[test]
    fn a_clock_that_was_set_back_changes_no_order() {
        let root = tempfile::tempdir().unwrap();
        // 2100-01-01 00:00:00, by a clock that is right only now.
        let future = 4_102_444_800.0;
        run(&root.path().join("a/first"), json!({ "status": "done", "name": "a", "created": future }));
        let second = new_folder(root.path(), "a").unwrap();
        assert_eq!(second, root.path().join("a/21000101_000000"));
        run(&second, json!({ "status": "done", "name": "a", "created": creation(&root.path().join("a")) }));
        assert_eq!(names(&runs(root.path(), "a").unwrap()), ["21000101_000000", "first"]);
        assert_eq!(new_folder(root.path(), "a").unwrap(), root.path().join("a/21000101_000000_1"));
    }

    #[test]
    fn names_that_leave_the_root_are_refused() {
        for name in ["../x", "/x", "", ".", "a/../../x"] {
            assert!(new_folder(Path::new("runs"), name).unwrap_err().is::<Refused>(), "{name}");
        }
    }

    #[test]
    fn folders_with_a_run_or_with_other_files_are_not_taken() {
        let root = tempfile::tempdir().unwrap();
        let other = root.path().join("other");
        std::fs::create_dir(&other).unwrap();
        for name in ["notes.txt", "a.png"] {
            std::fs::write(other.join(name), "").unwrap();
        }
        let said = take_new(&other).unwrap_err().to_string();
        assert!(said.contains("no run's (a.png and 1 more)"), "{said}");
        assert_eq!(std::fs::read_dir(&other).unwrap().count(), 2, "nothing was written");
        let former = root.path().join("former");
        run(&former, json!({ "status": "running" }));
        let said = take_new(&former).unwrap_err().to_string();
        assert!(said.contains("holds a run already (lost)") && said.contains("--resume"), "{said}");
        let begun = root.path().join("begun");
        drop(take_new(&begun).unwrap());
        for name in BEGUN.into_iter().chain([".TzTSog.tmp"]) {
            std::fs::write(begun.join(name), "").unwrap();
        }
        take_new(&begun).unwrap();
        let new = root.path().join("deep/new");
        drop(take_new(&new).unwrap());
        take_new(&new).unwrap();
    }
}
