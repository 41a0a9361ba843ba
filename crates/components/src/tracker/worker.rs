//! The thread that sends.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::http::Failure;
use super::kept::Book;
use super::stream::{Batch, Stream};
use super::{End, Facts, Server};

/// Between two looks at the records where nobody says that there are more.
const TICK: Duration = Duration::from_secs(1);
/// After the first failure; doubled for each further one.
const BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// What the thread is told.
pub(super) enum Told {
    /// There are more records.
    More,
    /// The run has ended.
    End(End),
}

/// What the thread tells.
#[derive(Default)]
pub(super) struct Shared(Mutex<Standing>);

/// How far the thread has got.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// Bytes of the records that are done with.
    pub sent: u64,
    /// What failed last.
    pub error: Option<String>,
    /// Images that the run had not kept.
    pub missing: u64,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(super) struct Worker {
    pub node: String,
    pub folder: PathBuf,
    pub server: Box<dyn Server>,
    pub stream: Stream,
    /// Bytes of the records that were read.
    pub at: u64,
    pub told: Receiver<Told>,
    pub shared: Arc<Shared>,
    /// Hears once that everything was sent, or nothing more will be.
    pub done: Sender<()>,
}

impl Worker {
    /// Sends until the run has ended and all was sent, or the server wants no more.
    pub fn work(mut self) {
        let mut book = match Book::open(&self.folder, &self.node) {
            Ok(book) => book,
            Err(error) => return self.give_up(&error),
        };
        let (mut open, mut end, mut wait) = (false, None, Duration::ZERO);
        let mut next = Instant::now();
        loop {
            match self.told.recv_timeout(if end.is_some() { wait } else { TICK }) {
                Ok(Told::End(ended)) => {
                    end = Some(ended);
                    self.stream.ended();
                    next = Instant::now();
                }
                // Removed by an edit, or waited for no longer: what was not sent stays.
                Err(RecvTimeoutError::Disconnected) => return,
                _ => {}
            }
            if Instant::now() < next {
                continue;
            }
            match self.round(&mut book, &mut open, end.as_ref()) {
                Ok(()) => {
                    if std::mem::take(&mut wait) > Duration::ZERO {
                        tracing::info!("{}: {} answers again", self.node, self.server.place());
                    }
                    self.shared.lock().error = None;
                    if end.is_some() {
                        let _ = self.done.send(());
                        return;
                    }
                }
                Err(Failure::Passing(error)) => {
                    if wait.is_zero() && end.is_none() {
                        tracing::warn!("{}: {error:#}; what is measured is kept and sent later", self.node);
                    }
                    self.shared.lock().error = Some(format!("{error:#}"));
                    wait = (wait * 2).clamp(BACKOFF, if end.is_some() { BACKOFF } else { LONGEST_BACKOFF });
                    next = Instant::now() + wait;
                }
                Err(Failure::Refused(_, error)) => return self.give_up(&error),
            }
        }
    }

    fn give_up(&self, error: &anyhow::Error) {
        tracing::warn!("{}: {error:#}; nothing more is sent in this life of the run", self.node);
        self.shared.lock().error = Some(format!("{error:#}"));
        let _ = self.done.send(());
    }

    /// Whether the sink is gone: removed by an edit, or waited for no longer.
    fn left_alone(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// Opens the run on the server if it is not, and sends all that there is, unless it is left alone: a run may write faster than
    /// a server takes.
    fn round(&mut self, book: &mut Book, open: &mut bool, end: Option<&End>) -> Result<(), Failure> {
        if !*open {
            self.open(book)?;
            *open = true;
        }
        while !self.left_alone()
            && let Some(next) = self.stream.next(self.at)?
        {
            if next.batch != Batch::Nothing {
                self.server.send(&next.batch)?;
            }
            self.at = next.upto;
            if let Some((from, to, crc)) = next.last {
                (book.kept.sent, book.kept.last) = (to, (from, crc));
                book.kept.missing += next.missing;
                book.write()?;
                self.publish(book);
            }
        }
        if let Some(end) = end.filter(|_| !self.left_alone()) {
            self.server.end(&Facts::of(&self.folder), end)?;
        }
        Ok(())
    }

    fn open(&mut self, book: &mut Book) -> Result<(), Failure> {
        let run = Facts::of(&self.folder);
        let place = self.server.place();
        let goes_on = book.kept.place == place && book.still_true();
        self.shared.lock().sent = if goes_on { book.kept.sent } else { 0 };
        if book.kept.place != place {
            book.begin(place, None)?;
        } else if !goes_on {
            tracing::info!("{}: the run went back behind what {place} was sent: it is sent everything anew", self.node);
            let known = match &book.kept.known {
                Some(known) => self.server.retire(&run, known)?,
                None => None,
            };
            book.begin(place, known)?;
        }
        self.at = book.kept.sent;
        let known = self.server.open(&run, book.kept.known.as_ref())?;
        book.kept.known = Some(known);
        book.write()?;
        self.publish(book);
        Ok(())
    }

    fn publish(&self, book: &Book) {
        let mut standing = self.shared.lock();
        (standing.sent, standing.missing) = (book.kept.sent, book.kept.missing);
    }

    /// Starts the thread.
    pub fn start(self) -> Result<()> {
        let thread = std::thread::Builder::new().name(format!("to {}", self.node));
        thread.spawn(move || self.work()).map(drop).context("cannot start a thread for a tracker")
    }
}
