//! What the sources have that their commit has not.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::process::{Command, Stdio};

use super::masked::masked;

/// Bytes of a patch that are kept, of one untracked file, and of all of them.
const MOST: [usize; 3] = [1 << 20, 256 << 10, 2 << 20];
/// How the names of sources end.
const SOURCES: [&str; 7] = ["json", "py", "rs", "sh", "toml", "yaml", "yml"];

/// Writes `changes.patch`, where there are changes, and `untracked/`, of the repository that the working directory is in.
pub(super) fn write(folder: &Path, secrets: &[String], changed: bool) -> io::Result<()> {
    let diff = || git(&["diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color"], MOST[0]);
    let patch = if changed { diff() } else { None };
    if let Some((patch, cut)) = patch.filter(|(patch, _)| !patch.is_empty()) {
        let mut text = masked(&String::from_utf8_lossy(&patch), secrets);
        if cut {
            text.push_str("\n# cut here: the changes are larger than is kept of them\n");
        }
        fs::write(folder.join("changes.patch"), text)?;
    }
    let (names, _) = git(&["ls-files", "--others", "--exclude-standard", "-z"], MOST[0]).unwrap_or_default();
    let mut room = MOST[2];
    for name in names.split(|byte| *byte == 0) {
        let path = Path::new(OsStr::from_bytes(name));
        if !is_source(path) {
            continue;
        }
        let Some(text) = fs::metadata(path)
            .ok()
            .filter(|data| data.is_file() && data.len() <= MOST[1] as u64)
            .and_then(|_| fs::read(path).ok())
        else {
            continue;
        };
        room = match room.checked_sub(text.len()) {
            Some(room) => room,
            None => break,
        };
        let to = folder.join("untracked").join(path);
        fs::create_dir_all(to.parent().unwrap_or(folder))?;
        fs::write(to, masked(&String::from_utf8_lossy(&text), secrets))?;
    }
    Ok(())
}

/// Whether a name is that of a source below the working directory, and not of what a run left.
fn is_source(path: &Path) -> bool {
    let below = path.components().all(|part| matches!(part, Component::Normal(_)));
    let kind = path.extension().and_then(OsStr::to_str).is_some_and(|kind| SOURCES.contains(&kind));
    below && kind && !path.ancestors().skip(1).any(|folder| folder.join("run.json").exists())
}

/// What git prints, at most so many bytes, and whether there was more; `None` where it cannot be asked.
fn git(arguments: &[&str], most: usize) -> Option<(Vec<u8>, bool)> {
    let mut command = Command::new("git");
    command
        .args(arguments)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut text = Vec::new();
    let read = child.stdout.take()?.take(most as u64 + 1).read_to_end(&mut text);
    let cut = text.len() > most;
    text.truncate(most);
    if cut || read.is_err() {
        let _ = child.kill();
    }
    let ended = child.wait().ok()?;
    (cut || ended.success()).then_some((text, cut))
}
