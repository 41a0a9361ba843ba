//! Checkpoints are written behind the training, by a thread: at most one at a time.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Error, Result, anyhow};
use pipe_native::fault::guarded;

/// What is being written, and what could not be.
#[derive(Default)]
pub struct Behind {
    pending: RefCell<Option<Pending>>,
    failed: RefCell<Vec<(PathBuf, Error)>>,
}

struct Pending {
    target: PathBuf,
    thread: JoinHandle<Result<()>>,
}

impl Behind {
    /// Lets a thread do `write`, which makes `target`. The one before must have been waited for.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn begin(&self, target: &Path, write: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
        debug_assert!(self.pending.borrow().is_none(), "the one before was waited for");
        let thread = Builder::new().name("checkpoint".into()).spawn(move || guarded(write));
        let thread = thread.context("a thread to write the checkpoint")?;
        *self.pending.borrow_mut() = Some(Pending { target: target.to_owned(), thread });
        Ok(())
    }

    /// Waits until nothing is being written; what has just been completed.
    pub fn wait(&self) -> Option<PathBuf> {
        let Pending { target, thread } = self.pending.borrow_mut().take()?;
        match thread.join().unwrap_or_else(|_| Err(anyhow!("the thread that writes checkpoints broke off"))) {
            Ok(()) => Some(target),
            Err(error) => {
                self.failed.borrow_mut().push((target, error));
                None
            }
        }
    }

    /// Whether `target` could not be written.
    ///
    /// # Errors
    /// Then, and once.
    pub fn outcome(&self, target: &Path) -> Result<()> {
        let mut failed = self.failed.borrow_mut();
        let own = failed.iter().position(|(path, _)| path == target);
        own.map_or(Ok(()), |own| Err(failed.remove(own).1))
    }
}

impl Drop for Behind {
    /// What was begun is finished, however the run ends.
    fn drop(&mut self) {
        self.wait();
        for (_, error) in self.failed.borrow().iter() {
            tracing::error!("{error:#}");
        }
    }
}
