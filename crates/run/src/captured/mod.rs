//! What a run keeps of where it comes from, with nothing in the pipeline that asks for it: what the sources have that the commit has not, and
//! on which programs and machine it runs. A thread takes it, so that no start waits; what cannot be had is left out.
//!
//! Each life of a run has a folder of its own, `captured/1`, `captured/2`, …:
//!
//! - [`sources`]: `changes.patch`, the working tree against the commit, and `untracked/`, sources that no commit has
//! - [`environment`]: on what it runs, `environment.json`
//! - [`masked`]: no secret is written to either
//!
//! [`machine`] (and [`gpu`]) measures all the while how busy they are, and how fast the run gets on.

mod environment;
mod gpu;
mod machine;
mod masked;
mod sources;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use pipe_core::busy::Busy;
use pipe_core::throughput::Throughput;
use pipe_vocab::{Secret, atomic, files};
use serde_json::Value;

use crate::differences::tables;

/// How long the end of a run waits for what is not yet written.
const PATIENCE: Duration = Duration::from_secs(2);

/// Captures at work.
pub(crate) struct Captured {
    taken: Option<Receiver<()>>,
    machine: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Captured {
    /// Begins to write into the folder of a run, for this life of it. `secrets`: texts that must not be in it. `busy` and `throughput`: what
    /// the training thread is at, and how the run gets on. `changed`: whether the sources have changes that their commit has not; nothing
    /// outside of a repository.
    pub(crate) fn start(
        run: &Path,
        secrets: &[Secret],
        (busy, throughput): (Busy, Arc<Throughput>),
        changed: Option<bool>,
    ) -> Captured {
        let ((done, taken), (stop, stopped)) = (channel(), channel());
        let lives = fs::read_dir(run.join("captured")).into_iter().flatten().count();
        let folder = run.join("captured").join((lives + 1).to_string());
        let (measured, secrets) = (run.to_owned(), secrets.iter().map(|secret| secret.reveal().to_owned()).collect());
        let take = move || {
            if let Err(error) = take(&folder, secrets, changed) {
                tracing::warn!("what the run comes from is not kept: {error}");
            }
            drop(done);
        };
        let measure = move || {
            if let Err(error) = machine::measure(&measured, &busy, &throughput, &stopped) {
                tracing::warn!("how busy the machine is is not measured any more: {error:#}");
            }
        };
        let taken = Builder::new().name("captured".into()).spawn(take).ok().map(|_| taken);
        let machine = Builder::new().name("machine".into()).spawn(measure).ok().map(|thread| (stop, thread));
        Captured { taken, machine }
    }
}

/// Waits until what the run comes from is written, or has taken too long.
impl Drop for Captured {
    fn drop(&mut self) {
        if let Some(taken) = &self.taken {
            let _ = taken.recv_timeout(PATIENCE);
        }
        if let Some((stop, thread)) = self.machine.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// What is another now than when a run began: variables, libraries, and changes of its sources that no commit has.
pub(crate) fn differences(run: &Path, changed: Option<bool>) -> Vec<String> {
    let folder = run.join("captured/1");
    let text = files::read_text(&folder.join("environment.json"), 16 << 20).unwrap_or_default();
    let Ok(was) = serde_json::from_str::<Value>(&text) else { return Vec::new() };
    let is = environment::environment();
    let mut lines = tables("variable", &was["variables"], &is["variables"]);
    lines.extend(tables("build", &environment::builds(&was, &is), &environment::builds(&is, &was)));
    if folder.join("changes.patch").exists() {
        lines.push(format!("its sources had changes that no commit has: {}/changes.patch", folder.display()));
    } else if changed == Some(true) {
        lines.push("the sources have changes now that no commit has".into());
    }
    lines
}

fn take(folder: &Path, secrets: Vec<String>, changed: Option<bool>) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let secrets = masked::with_those_of_the_environment(secrets);
    let environment = format!("{:#}\n", environment::environment());
    atomic::write(&folder.join("environment.json"), masked::masked(&environment, &secrets).as_bytes())
        .map_err(std::io::Error::other)?;
    changed.map_or(Ok(()), |changed| sources::write(folder, &secrets, changed))
}
