//! The file `heartbeat` of a run's folder: while the run is at work, its text is new every ten seconds.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use crate::clock::now;

/// How often the heart of a run beats.
pub const BEAT: Duration = Duration::from_secs(10);

/// A heart that has stood still for so long belongs to a run that is gone: three beats, and time for a slow network.
pub const DEAD: Duration = Duration::from_secs(45);

pub(crate) const NAME: &str = "heartbeat";

/// A thread that beats until this is dropped.
#[derive(Debug)]
pub struct Heartbeat {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Beats in a folder from now on.
    ///
    /// # Errors
    /// When the first beat cannot be written.
    pub fn start(folder: &Path) -> Result<Heartbeat> {
        beat(folder, now())?;
        let folder = folder.to_owned();
        let (stop, stopped) = mpsc::channel::<()>();
        let body = move || {
            // A beat that fails is no reason to stop: the disk may have room again. Nor is it worth a word: the records say it.
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                let _ = beat(&folder, now());
            }
        };
        let thread = std::thread::Builder::new().name("heartbeat".into()).spawn(body)?;
        Ok(Heartbeat { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes one beat, at `time` in seconds since 1970.
pub(crate) fn beat(folder: &Path, time: f64) -> Result<()> {
    let path = folder.join(NAME);
    let text = format!("{time:.3}\n");
    // In place, always as long: it needs no room on a full disk, and brings no file back into a folder that was removed.
    let write = || match OpenOptions::new().write(true).create(true).truncate(false).open(&path) {
        Ok(mut file) => file.write_all(text.as_bytes()),
        Err(error) => Err(error),
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The time since the last beat; `None` where there never was one. A beat of the future is of now.
pub fn age(folder: &Path) -> Option<Duration> {
    let beaten = fs::metadata(folder.join(NAME)).ok()?.modified().ok()?;
    Some(SystemTime::now().duration_since(beaten).unwrap_or_default())
}

/// Whether the heart of a run on another machine goes on: looked at for `patience`, since clocks of machines differ. One that
/// stood still for an hour is not waited for.
pub(crate) fn goes_on(folder: &Path, host: &str, patience: Duration) -> bool {
    let read = || fs::read_to_string(folder.join(NAME)).ok();
    let first = read();
    if first.is_none() || age(folder).is_none_or(|age| age > Duration::from_secs(3600)) {
        return false;
    }
    tracing::info!("waiting up to {} s to see whether the run on {host} is at work", patience.as_secs());
    let start = Instant::now();
    while start.elapsed() < patience {
        std::thread::sleep(patience / 50);
        if read() != first {
            return true;
        }
    }
    false
}
