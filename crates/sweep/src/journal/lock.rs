//! Optuna's lock beside a journal: a link `FILE.lock`, made by whoever writes, renamed and removed by whoever has written.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

/// A lock that stood for so long, while nothing was written, is of someone who is gone: Optuna's time.
const GRACE: Duration = Duration::from_secs(30);

/// Held while a journal is written; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    file: PathBuf,
}

/// The lock's file.
pub(super) fn file_of(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Waits for the lock and takes it.
pub(super) fn take(journal: &Path) -> Result<Held> {
    let file = file_of(journal);
    let mut wait = Duration::from_millis(1);
    let mut seen: Option<(Option<SystemTime>, Instant)> = None;
    loop {
        match symlink(own(journal), &file) {
            Ok(()) => return Ok(Held { file }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", file.display())),
        }
        // Optuna looks at the time of the journal, where the link points.
        let now = fs::metadata(&file).and_then(|meta| meta.modified()).ok();
        match &seen {
            Some((before, since)) if *before == now => {
                if since.elapsed() > GRACE {
                    remove(&file);
                    seen = None;
                }
            }
            _ => seen = Some((now, Instant::now())),
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(Duration::from_millis(200));
    }
}

/// Where the link of this program points to: to the journal, in words that Optuna does not use, so that who comes later and is the only one
/// of this program knows whose it was.
fn own(journal: &Path) -> String {
    format!("././{}", journal.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes a lock that this program left when it was killed. Only for who knows that no other of this program is at work here.
pub(super) fn remove_own(journal: &Path) {
    let file = file_of(journal);
    if fs::read_link(&file).is_ok_and(|link| link.as_os_str() == own(journal).as_str()) {
        remove(&file);
    }
}

/// By way of another name, as Optuna does: of two who remove it, one removes no other's.
fn remove(file: &Path) {
    let mut name = file.as_os_str().to_owned();
    let unique = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    name.push(format!("{:x}-{unique:x}.rename", std::process::id()));
    if fs::rename(file, &name).is_ok() {
        let _ = fs::remove_file(&name);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        remove(&self.file);
    }
}
