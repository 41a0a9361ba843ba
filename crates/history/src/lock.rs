//! A run's folder has one writer: the file `lock`, locked while the run is at work, with who holds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use pipe_vocab::atomic;

use crate::heartbeat::{self, Heartbeat};

/// Who writes a run's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    host: String,
    process: u32,
    /// When the process started, in ticks since the machine did: numbers of processes are used again.
    started: Option<u64>,
    /// Which start of which machine: what the kernel locks, it locks for all that see the same value.
    boot: Option<String>,
    /// In which numbering of processes: a container has its own.
    namespace: Option<PathBuf>,
}

impl Holder {
    fn me() -> Holder {
        let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let process = std::process::id();
        Holder {
            host: read("/proc/sys/kernel/hostname").unwrap_or_default(),
            process,
            started: start_of(process),
            boot: read("/proc/sys/kernel/random/boot_id"),
            namespace: fs::read_link("/proc/self/ns/pid").ok(),
        }
    }

    fn of(folder: &Path) -> Option<Holder> {
        serde_json::from_str(&fs::read_to_string(folder.join(NAME)).ok()?).ok()
    }

    /// Whether the kernel that locks for it is ours.
    fn is_here(&self, me: &Holder) -> bool {
        self.boot.is_some() && self.boot == me.boot
    }

    /// Whether its process is at work; `None` where that cannot be seen from here.
    fn alive(&self) -> Option<bool> {
        let me = Holder::me();
        let seen = self.is_here(&me) && self.namespace == me.namespace && me.started.is_some();
        seen.then(|| start_of(self.process).is_some_and(|started| Some(started) == self.started))
    }
}

/// When a process started, in ticks since the machine did; `None` when it has ended.
fn start_of(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    // Ended, and nobody has asked how.
    if state == "Z" || state == "X" { None } else { fields.nth(18)?.parse().ok() }
}

/// Why a run does not begin in a folder, or not go on from it: nothing has been touched, and the command line can say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

const NAME: &str = "lock";

/// The right to write a run's folder, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _heartbeat: Heartbeat,
    _file: File,
}

impl Lock {
    /// The files in a run's folder that belong to its lock.
    pub const FILES: [&str; 2] = [NAME, heartbeat::NAME];

    /// Takes a folder that exists. A lock whose process has ended is taken over; where this cannot be seen (it ran on another
    /// machine), the lock is, once its heartbeat has stood still for some time.
    ///
    /// # Errors
    /// [`Refused`] while another process has it; others when the folder cannot be written.
    pub fn take(folder: &Path) -> Result<Lock> {
        Lock::take_after(folder, heartbeat::DEAD)
    }

    fn take_after(folder: &Path, patience: Duration) -> Result<Lock> {
        let path = folder.join(NAME);
        let cannot = || format!("cannot write {}", path.display());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.with_context(cannot)?;
        let locked = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Err(refused(folder).into()),
            // A file system without locks.
            Err(TryLockError::Error(_)) => false,
        };
        let me = Holder::me();
        if let Some(former) = Holder::of(folder).filter(|former| *former != me && !(locked && former.is_here(&me))) {
            let alive = former.alive().unwrap_or_else(|| heartbeat::goes_on(folder, &former.host, patience));
            if alive {
                return Err(refused(folder).into());
            }
        }
        // Nobody else writes here now.
        for part in ["", "checkpoints", "pipelines", "weights"] {
            atomic::sweep(&folder.join(part));
        }
        let text = serde_json::to_string(&me)? + "\n";
        let mut write = || -> std::io::Result<()> {
            file.rewind()?;
            file.set_len(0)?;
            file.write_all(text.as_bytes())?;
            file.sync_data()
        };
        write().with_context(cannot)?;
        Ok(Lock { _heartbeat: Heartbeat::start(folder)?, _file: file })
    }
}

fn refused(folder: &Path) -> Refused {
    let by = Holder::of(folder).map(|Holder { host, process, .. }| format!("process {process} on {host}"));
    let by = by.unwrap_or_else(|| "another process".into());
    Refused(format!(
        "{} is the folder of a run at work ({by}): wait for its end, or give another folder with `--out`",
        folder.display()
    ))
}

/// Whether the process that holds a folder is at work; one that cannot be seen from here is while its heart beats.
pub fn alive(folder: &Path) -> bool {
    let seen = Holder::of(folder).and_then(|holder| holder.alive());
    seen.unwrap_or_else(|| heartbeat::age(folder).is_some_and(|age| age < heartbeat::DEAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(holder: &Holder) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), serde_json::to_string(holder).unwrap()).unwrap();
        folder
    }

    #[test]
    fn a_folder_is_taken_once_and_again_when_it_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        assert!(alive(folder.path()));
        let refused = Lock::take(folder.path()).unwrap_err();
        assert!(refused.is::<Refused>());
        let said = refused.to_string();
        assert!(said.contains(&format!("process {} on", std::process::id())) && said.contains("--out"), "{said}");
        drop(lock);
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_lock_whose_process_has_ended_is_stale() {
        let gone = Holder { process: u32::MAX, ..Holder::me() };
        // The number was given to another process: ours.
        let replaced = Holder { started: Some(1), ..Holder::me() };
        for holder in [gone, replaced] {
            let folder = folder(&holder);
            assert!(!alive(folder.path()));
            Lock::take(folder.path()).unwrap();
            assert_eq!(Holder::of(folder.path()), Some(Holder::me()));
        }
    }

    #[test]
    fn another_machines_lock_is_stale_when_its_heart_stands_still() {
        let other = Holder { host: "elsewhere".into(), boot: Some("another".into()), ..Holder::me() };
        let patience = Duration::from_secs(1);
        let quiet = folder(&other);
        assert!(!alive(quiet.path()), "it never beat");
        Lock::take_after(quiet.path(), patience).unwrap();

        let beating = folder(&other);
        let path = beating.path().to_owned();
        heartbeat::beat(&path, 1.0).unwrap();
        assert!(alive(&path));
        let beats = std::thread::spawn(move || {
            for beat in 2..120 {
                std::thread::sleep(Duration::from_millis(10));
                heartbeat::beat(&path, f64::from(beat)).unwrap();
            }
        });
        assert!(Lock::take_after(beating.path(), patience).unwrap_err().is::<Refused>());
        beats.join().unwrap();
        Lock::take_after(beating.path(), patience).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = format!("{:#}", Lock::take(file.path()).unwrap_err());
        assert!(said.contains("lock") && said.contains("Not a directory"), "{said}");
    }
}
