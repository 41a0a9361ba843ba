//! The watcher: notices edits of the files that a pipeline was made of, and puts them into the inbox.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use notify::{RecursiveMode, Watcher as _};

use super::inbox::Inbox;
use crate::load::{PipelineSource, Snapshot};

/// Editors write in several steps: an edit is over when nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(100);
/// A folder in which something else is always written must not keep an edit waiting longer.
const LONGEST: Duration = Duration::from_millis(500);
/// A file that is gone for a moment, between removing and renaming, is waited for so long.
const GONE: Duration = Duration::from_secs(1);
/// Files are looked at so often even where the system tells of changes: a folder may have been replaced as a whole.
const ANYWAY: Duration = Duration::from_secs(5);

/// How files are watched.
#[derive(Debug, Clone, Copy, Default)]
pub struct WatchOptions {
    /// Look at the files so often instead of being told of changes: network folders tell nothing.
    pub poll: Option<Duration>,
}

enum Message {
    /// Something happened in a folder.
    Changed,
    /// Read the files and apply them, edited or not.
    Reload,
}

/// Asks a watcher to read the files as they are now.
#[derive(Clone)]
pub struct Trigger(Sender<Message>);

impl Trigger {
    /// Reads the files and applies them, edited or not. A watcher that has ended takes no notice.
    pub fn reload(&self) {
        let _ = self.0.send(Message::Reload);
    }
}

/// Watches the files of a pipeline on a thread of its own, until the process ends. `first` is what was read of them.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(source: PipelineSource, first: Snapshot, options: WatchOptions, inbox: Arc<Inbox>) -> Result<Trigger> {
    let (sender, receiver) = channel();
    let trigger = Trigger(sender.clone());
    let watcher = Watcher { source, last: first, options, inbox, receiver, system: None, folders: BTreeSet::new() };
    let thread = std::thread::Builder::new().name("watch".into());
    thread.spawn(move || watcher.run(&sender)).context("cannot start watching")?;
    Ok(trigger)
}

struct Watcher {
    source: PipelineSource,
    /// The files as they were last put into the inbox.
    last: Snapshot,
    options: WatchOptions,
    inbox: Arc<Inbox>,
    receiver: Receiver<Message>,
    system: Option<notify::RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Watcher {
    fn run(mut self, sender: &Sender<Message>) {
        if self.options.poll.is_none() {
            let told = sender.clone();
            // Whatever happened, the files themselves say whether it matters; an error may hide a change.
            let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let only_read = matches!(&event, Ok(event) if event.kind.is_access());
                if !only_read {
                    let _ = told.send(Message::Changed);
                }
            });
            match made {
                Ok(system) => self.system = Some(system),
                Err(error) => {
                    let seconds = ANYWAY.as_secs();
                    tracing::warn!(
                        "file system notifications are not available ({error}); files are polled every {seconds} s"
                    );
                }
            }
        }
        self.watch_folders();
        // What was edited while the run was being built was seen by nobody.
        let _ = sender.send(Message::Changed);
        let interval = self.options.poll.unwrap_or(ANYWAY);
        loop {
            let asked = match self.receiver.recv_timeout(interval) {
                Ok(Message::Reload) => true,
                Ok(Message::Changed) => self.wait_for_quiet(),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let snapshot = self.settled();
            if asked || snapshot != self.last {
                self.last = snapshot.clone();
                self.inbox.put(snapshot);
                // The edit may have named another parent, or another library.
                self.watch_folders();
            }
        }
    }

    /// Waits until nothing more happens; whether a reload was asked for meanwhile.
    fn wait_for_quiet(&self) -> bool {
        let start = Instant::now();
        let mut asked = false;
        while start.elapsed() < LONGEST {
            match self.receiver.recv_timeout(QUIET) {
                Ok(Message::Reload) => asked = true,
                Ok(Message::Changed) => {}
                Err(_) => break,
            }
        }
        asked
    }

    /// The files once they hold still: read twice alike, and none of them missing that was there.
    fn settled(&self) -> Snapshot {
        let start = Instant::now();
        let mut snapshot = self.source.snapshot();
        while snapshot != self.last && start.elapsed() < GONE {
            std::thread::sleep(QUIET / 4);
            let again = self.source.snapshot();
            let gone = again.files.iter().any(|(path, text)| text.is_err() && self.had(path));
            let empty = again.files.values().any(|text| text.as_ref().is_ok_and(String::is_empty));
            if again == snapshot && !gone && !empty {
                break;
            }
            snapshot = again;
        }
        snapshot
    }

    fn had(&self, path: &Path) -> bool {
        self.last.files.get(path).is_some_and(Result::is_ok)
    }

    /// Watches the folders of all files: a file that is replaced by another of its name is seen only from there.
    fn watch_folders(&mut self) {
        let Some(system) = &mut self.system else { return };
        let files = self.last.files.keys().chain(self.last.libraries.keys());
        let mut folders = BTreeSet::new();
        for file in files {
            // Of a link, the folder of the link and that of the file.
            for path in [Some(file.clone()), std::fs::canonicalize(file).ok()].into_iter().flatten() {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                folders.insert(folder.map_or_else(|| PathBuf::from("."), Path::to_owned));
            }
        }
        // All of them anew: a folder of the same name may be another one by now.
        for former in &self.folders {
            // It may have been removed: then nothing is watched already.
            let _ = system.unwatch(former);
        }
        for folder in &folders {
            if let Err(error) = system.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!("{} is not watched: {error}", folder.display());
            }
        }
        self.folders = folders;
    }
}
