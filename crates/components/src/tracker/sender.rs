//! The sink in front of the thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::{Receiver, bounded};
use pipe_core::{BuildContext, Record, Sink, Source, Stateful, Summary, now};

use super::stream::Stream;
use super::worker::{Shared, Told, Worker};
use super::{End, Server};

/// What a tracker needs of its sink.
pub struct Setting {
    /// The sink's name.
    pub node: String,
    /// The run's folder.
    pub folder: PathBuf,
    /// Nodes whose records are sent; all when empty.
    pub inputs: Vec<String>,
    /// How long the end of the run waits for what is not sent yet.
    pub patience: Duration,
}

impl Setting {
    /// Of the sink that is built.
    pub fn of(ctx: &BuildContext<'_>, inputs: &[Source], patience: pipe_core::Duration) -> Setting {
        Setting {
            node: ctx.node.to_string(),
            folder: ctx.folder().to_owned(),
            inputs: inputs.iter().map(|Source(node)| node.to_string()).collect(),
            patience: patience.get(),
        }
    }
}

/// A sink that says to a thread when there is more in the run's folder. The thread starts with the first record, when it is known what a
/// resumed run goes on from.
pub struct Sender {
    setting: Setting,
    server: Option<Box<dyn Server>>,
    thread: Option<Thread>,
}

struct Thread {
    tell: crossbeam_channel::Sender<Told>,
    done: Receiver<()>,
    shared: Arc<Shared>,
}

impl Sender {
    /// To this server.
    pub fn new(setting: Setting, server: impl Server + 'static) -> Sender {
        Sender { setting, server: Some(Box::new(server)), thread: None }
    }

    fn start(&mut self) -> Result<()> {
        let Some(server) = self.server.take() else { return Ok(()) };
        let Setting { node, folder, inputs, .. } = &self.setting;
        let ((tell, told), (done, is_done)) = (bounded(2), bounded(1));
        let shared = Arc::<Shared>::default();
        let stream = Stream::new(folder, inputs);
        let worker = Worker {
            node: node.clone(),
            folder: folder.clone(),
            server,
            stream,
            at: 0,
            told,
            shared: shared.clone(),
            done,
        };
        worker.start()?;
        self.thread = Some(Thread { tell, done: is_done, shared });
        Ok(())
    }

    /// One line of what is not sent.
    fn tell_of_the_rest(&self, thread: &Thread) {
        let standing = thread.shared.lock().clone();
        let Setting { node, folder, inputs, patience } = &self.setting;
        if standing.missing > 0 {
            tracing::warn!("{node}: {} images were not sent, because the run had not kept them", standing.missing);
        }
        let left = Stream::new(folder, inputs).left(standing.sent);
        let why = match standing.error {
            Some(error) => error,
            None => format!("the server did not take everything within {}", pipe_core::Duration::from(*patience)),
        };
        let later = format!("resuming the run sends it: pipe run … --resume {}", folder.display());
        tracing::warn!("{node}: {left} records and how the run ended are still unsent ({why}); {later}");
    }
}

impl Stateful for Sender {}

impl Sink for Sender {
    fn write(&mut self, _record: &Record) -> Result<()> {
        self.start()
    }

    fn flush(&mut self) -> Result<()> {
        if let Some(thread) = &self.thread {
            // Where it is full the thread knows.
            let _ = thread.tell.try_send(Told::More);
        }
        Ok(())
    }

    fn finish(&mut self, summary: &Summary) -> Result<()> {
        self.start()?;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let end = End { status: summary.status.clone(), error: summary.error.clone(), time: now() };
        // A thread that has given up hears nothing more.
        let told = thread.tell.send_timeout(Told::End(end), self.setting.patience).is_ok();
        let done = told && thread.done.recv_timeout(self.setting.patience).is_ok();
        if !done || thread.shared.lock().error.is_some() {
            self.tell_of_the_rest(&thread);
        }
        Ok(())
    }
}
