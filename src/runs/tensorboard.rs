//! `pipe runs tensorboard`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use pipe_runs::Run;
use pipe_runs::choose::choose;

use super::which::{one, roots};
use crate::output::{Status, print, say};
use crate::source::shown;

/// Arguments of `pipe runs tensorboard`.
#[derive(Debug, Args)]
pub struct TensorboardArgs {
    /// The runs: folders, names or how they begin, `latest`; all without any.
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// Which of them, as for `pipe runs list`.
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<String>,
    /// More for TensorBoard: `-- --port 6007`.
    #[arg(last = true, value_name = "ARGUMENT")]
    more: Vec<OsString>,
}

/// How folders of links are called; the process that reads them follows, and something that no other has.
const PREFIX: &str = "pipe-tensorboard-";

/// Opens runs in TensorBoard: in a temporary folder, a link to the event files of each under its name.
///
/// # Errors
/// When there is no such run, or none of them has event files.
pub fn tensorboard(args: &TensorboardArgs) -> Result<Status> {
    let mut runs = match args.runs.is_empty() {
        true => pipe_runs::look(&roots())?,
        false => args.runs.iter().map(|word| one(word)).collect::<Result<Vec<Run>>>()?,
    };
    choose(&mut runs, args.filter.as_deref(), !args.runs.is_empty())?;
    ensure!(!runs.is_empty(), "no runs are chosen");
    let events: Vec<(&Run, PathBuf)> = runs.iter().filter_map(|run| Some((run, events(run)?))).collect();
    ensure!(
        !events.is_empty(),
        "none of these {} runs has event files: a run writes them with a `[sink.tensorboard]`; `pipe ui` shows every run",
        runs.len()
    );
    if events.len() < runs.len() {
        say!("{} of {} runs have no event files and are left out", runs.len() - events.len(), runs.len());
    }
    sweep(&std::env::temp_dir());
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let folder = tempfile::Builder::new().prefix(&prefix).tempdir().context("no temporary folder")?.keep();
    let mut taken = BTreeSet::new();
    for (run, events) in events {
        let link = folder.join(link_name(&run.name, &mut taken));
        symlink(&events, &link).with_context(|| format!("cannot create {}", link.display()))?;
    }
    // It takes this process's place, so that signals and the exit status are its own; a later call removes the links.
    let error = Command::new("tensorboard").arg("--logdir").arg(&folder).args(&args.more).exec();
    match error.kind() {
        ErrorKind::NotFound => {
            say!("TensorBoard is not installed here (`pip install tensorboard`); this opens the runs where it is:");
            print(&format!("tensorboard --logdir {}\n", shown(&folder)))
        }
        _ => Err(anyhow!(error).context("cannot start tensorboard")),
    }
}

/// Removes the links of earlier calls whose TensorBoard is gone. Those of today stay: whoever has no TensorBoard here was told their folder.
fn sweep(temporary: &Path) {
    const KEPT: Duration = Duration::from_secs(24 * 3600);
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        let Some(process) = process else { continue };
        let made = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > KEPT));
        if is_old && !Path::new(&format!("/proc/{process}")).exists() {
            // Another's cannot be removed, and need not be.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Where a run's event files are: where its pipeline says, or in its own folder.
fn events(run: &Run) -> Option<PathBuf> {
    let sinks = run.options.iter().filter_map(|(key, value)| {
        let sink = key.strip_suffix(".type").filter(|key| key.starts_with("sink.") && value == "tensorboard")?;
        Some(run.options.get(&format!("{sink}.dir")))
    });
    let base = crate::source::pipeline_folder(&run.folder).unwrap_or_default();
    let told = sinks.map(|dir| match dir.and_then(|dir| dir.as_str()) {
        Some(dir) => base.join(dir),
        None => run.folder.join("tensorboard"),
    });
    let own = run.folder.join("tensorboard");
    told.chain([own]).find(|folder| has_events(folder)).and_then(|folder| folder.canonicalize().ok())
}

fn has_events(folder: &Path) -> bool {
    let mut names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().contains("tfevents"))
}

/// A run's name as that of a file, which no other has. Anyone may have written what a run is called.
fn link_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.+@= ".contains(c) { c } else { '_' };
    let name: String = name.chars().take(100).map(plain).collect();
    let name = name.trim_start_matches('.');
    let name = if name.is_empty() { "run" } else { name };
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| taken.insert(name.clone()));
    free.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_anyone_are_names_of_links() {
        let mut taken = BTreeSet::new();
        let names = ["slow", "slow", "../../etc", "a/b\u{1b}[0m", "", "...", "größe 2"];
        let names = names.map(|name| link_name(name, &mut taken));
        assert_eq!(names, ["slow", "slow-2", "_.._etc", "a_b__0m", "run", "run-2", "größe 2"]);
    }
}
