//! Datasets: indexed samples.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::Kind;
use crate::boundary::{Input, Remote, Served, no_method};
use crate::data::{Extent, Sample};
use crate::message::{Message, Reader, Wire};
use pipe_vocab::facts::Contents;

const LEN: u32 = 1;
const GET: u32 = 2;
const PROPERTY: u32 = 3;
const EXTENT: u32 = 4;
const CLASS_NAMES: u32 = 5;
const REPORT: u32 = 6;

/// Indexed samples, read from many threads.
pub trait Dataset: Send + Sync {
    /// Number of samples; never changes.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at `index`, below [`Dataset::len`].
    ///
    /// # Errors
    /// When it cannot be read: which file, and why.
    fn get(&self, index: usize) -> Result<Sample>;

    /// The value of a property that [`crate::Config::properties`] declares, such as `num_classes`.
    ///
    /// # Errors
    /// When there is no such property.
    fn property(&self, name: &str) -> Result<Value> {
        bail!("the dataset has no property `{name}`")
    }

    /// The size of the image at `index` and the number of its objects, when known without reading it: for batches of alike shapes,
    /// and for what a run will need of memory.
    fn extent(&self, _index: usize) -> Option<Extent> {
        None
    }

    /// The classes of the sample at `index`, that of the image or those of its objects, when known without reading it: for samplers
    /// that balance them; for datasets of the program.
    fn classes(&self, _index: usize) -> Option<Vec<i64>> {
        None
    }

    /// Names of the classes by label, for people.
    fn class_names(&self) -> Vec<(i64, String)> {
        Vec::new()
    }

    /// The image file that the sample at `index` is read from, if each has its own; for datasets of the program.
    fn file(&self, _index: usize) -> Option<PathBuf> {
        None
    }

    /// More than a plugin can know, for components of the program that know what to ask for: the annotations in COCO's form.
    fn extension(&self) -> Option<&dyn Any> {
        None
    }

    /// A short text by which the samples are known again when a run is resumed: of the annotations, or of the listing; for
    /// datasets of the program.
    fn fingerprint(&self) -> Option<String> {
        None
    }

    /// What the index says of the samples, for the rules of `pipe check`; for datasets of the program.
    fn contents(&self) -> Option<Contents> {
        None
    }

    /// Something said once when the run starts, such as an audit of annotations.
    fn report(&self) -> Option<String> {
        None
    }
}

impl Served for Arc<dyn Dataset> {
    fn serve(&self, method: u32, mut input: Input<'_>) -> Result<Message> {
        let from = &mut input.reader;
        match method {
            LEN => Message::plain(&self.len()),
            GET => Message::of(&self.get(index(&**self, from)?)?),
            PROPERTY => {
                let mut reply = Message::default();
                reply.json(&self.property(&from.get::<String>()?)?)?;
                Ok(reply)
            }
            EXTENT => Message::plain(&self.extent(index(&**self, from)?)),
            CLASS_NAMES => Message::plain(&self.class_names()),
            REPORT => Message::plain(&self.report()),
            other => Err(no_method(Kind::Dataset, other)),
        }
    }
}

fn index(dataset: &dyn Dataset, from: &mut Reader<'_>) -> Result<usize> {
    let index = from.get()?;
    ensure!(index < dataset.len(), "there is no sample {index} among {}", dataset.len());
    Ok(index)
}

/// A dataset of the other side, as the program uses it.
pub struct RemoteDataset {
    remote: Remote,
    len: usize,
}

// SAFETY: the object is a `dyn Dataset`, which is `Send + Sync` by its trait, and the border keeps nothing of a thread.
unsafe impl Send for RemoteDataset {}
// SAFETY: as above.
unsafe impl Sync for RemoteDataset {}

impl RemoteDataset {
    pub(crate) fn new(remote: Remote) -> Result<RemoteDataset> {
        let len = remote.call(LEN, &Message::default())?.reader().get()?;
        Ok(RemoteDataset { remote, len })
    }

    /// What a method without a way to fail says; its error goes to the log of this side, since it must not vanish.
    fn or_warn<T: Default>(&self, value: Result<T>) -> T {
        value.unwrap_or_else(|error| {
            tracing::warn!("{error:#}");
            T::default()
        })
    }
}

impl Dataset for RemoteDataset {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Sample> {
        Sample::unpack(&mut self.remote.call(GET, &Message::plain(&index)?)?.reader())
    }

    fn property(&self, name: &str) -> Result<Value> {
        self.remote.call(PROPERTY, &Message::plain(name)?)?.reader().json()
    }

    fn extent(&self, index: usize) -> Option<Extent> {
        let ask = || self.remote.call(EXTENT, &Message::plain(&index)?)?.reader().get();
        self.or_warn(ask())
    }

    fn class_names(&self) -> Vec<(i64, String)> {
        let ask = || self.remote.call(CLASS_NAMES, &Message::default())?.reader().get();
        self.or_warn(ask())
    }

    fn report(&self) -> Option<String> {
        let ask = || self.remote.call(REPORT, &Message::default())?.reader().get();
        self.or_warn(ask())
    }
}
