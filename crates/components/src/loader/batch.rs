//! Batches of samples, made by worker threads.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Loader;
use pipe_core::{
    BuildContext, Component, Config, Dataset, Instance, Kind, Property, PropertyType, Ref, State, Stateful, Transform,
};
use pipe_data::order::{Order, aspect_ratio_group};
use pipe_data::pool::{Pool, Stop};
use pipe_data::random::{Purpose, stream};
use pipe_data::{Batch, Sample, collate};
use pipe_native::fault::guarded;

/// Batches of a dataset's samples, read and transformed by worker threads.
///
/// The order of an epoch and the random numbers of each sample depend on the pipeline's seed, the epoch and the sample
/// alone: the same batches come out with any number of workers, and a resumed run goes on with the very batch it stopped at.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Where samples come from.
    pub dataset: Ref<dyn Dataset>,
    /// What is done to each sample.
    #[serde(default)]
    pub transform: Option<Ref<dyn Transform>>,
    /// Samples a batch.
    #[schemars(range(min = 1))]
    #[serde(default = "one")]
    pub batch_size: usize,
    /// Whether each epoch goes through the samples in an order of its own.
    #[serde(default)]
    pub shuffle: bool,
    /// Threads that read and transform samples; 0 does it between the iterations.
    #[schemars(range(max = 1024))]
    #[serde(default = "four")]
    pub workers: usize,
    /// Batches that each worker may be ahead.
    #[schemars(range(min = 1, max = 1024))]
    #[serde(default = "two")]
    pub prefetch: usize,
    /// Whether a last batch that is not full is left out.
    #[serde(default)]
    pub drop_last: bool,
    /// At most this many batches an epoch.
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub limit_batches: Option<usize>,
    /// Makes batches of pictures of alike shape: this many bins of width / height between 1/2 and 1, as many between 1
    /// and 2, and those beyond. All batches are then full.
    #[schemars(range(max = 100))]
    #[serde(default)]
    pub group_by_aspect_ratio: Option<usize>,
    /// What happens when a sample cannot be read or transformed.
    #[serde(default)]
    pub on_error: OnError,
}

/// What happens when a sample cannot be read or transformed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The run stops, naming the sample.
    #[default]
    Raise,
    /// The sample is left out of its batch; the log tells how many and which once an epoch.
    Skip,
}

fn one() -> usize {
    1
}

fn two() -> usize {
    2
}

fn four() -> usize {
    4
}

impl Config for BatchConfig {
    const KIND: Kind = Kind::Loader;
    const TYPE: &'static str = "batch";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "mnist"
root = "builtin:digits"

[transform.train]
type = "normalize"
mean = [0.1307]
std = [0.3081]

[loader.train]
type = "batch"
dataset = "dataset.train"
transform = "transform.train"
batch_size = 64
shuffle = true
workers = 2
"#;

    fn properties() -> &'static [Property] {
        &[
            Property { name: "batches", ty: PropertyType::Integer, doc: "Batches in an epoch." },
            Property { name: "samples", ty: PropertyType::Integer, doc: "Samples of the dataset." },
            Property { name: "batch_size", ty: PropertyType::Integer, doc: "Samples a batch." },
        ]
    }
}

impl Component for BatchConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let dataset = ctx.get(&self.dataset)?;
        let transform = self.transform.as_ref().map(|port| ctx.get(port)).transpose()?;
        let name = ctx.node.to_string();
        ctx.offer("samples", dataset.len());
        ctx.offer("batch_size", self.batch_size);
        let loader = BatchLoader::new(&self, dataset, transform, ctx.seed, name)?;
        ctx.offer("batches", loader.order.epoch_length());
        Ok(Instance::loader(loader))
    }
}

pipe_core::register!(BatchConfig);

/// Samples left out that are told of in full, each epoch.
const EXAMPLES: usize = 8;

/// What workers need to make a batch.
struct Source {
    dataset: Arc<dyn Dataset>,
    dataset_name: String,
    transform: Option<Arc<dyn Transform>>,
    seed: u64,
    on_error: OnError,
}

/// A batch on its way, with what was left out of it. No batch when nothing of it could be read.
struct Made {
    batch: Option<Batch>,
    skipped: Vec<String>,
}

impl Source {
    fn sample(&self, epoch: u64, index: usize) -> Result<Sample> {
        guarded(|| {
            let sample = self.dataset.get(index)?;
            let Some(transform) = &self.transform else { return Ok(sample) };
            let source = sample.source().to_owned();
            let mut rng = stream(self.seed, Purpose::Sample, epoch, index as u64);
            guarded(|| transform.apply(sample, &mut rng)).with_context(|| format!("transforming {source}"))
        })
        .with_context(|| format!("sample {index} of {}", self.dataset_name))
    }

    fn make(&self, epoch: u64, position: usize, indices: &[usize], stop: &Stop) -> Result<Made> {
        let mut samples = Vec::with_capacity(indices.len());
        let mut skipped = Vec::new();
        for &index in indices {
            if stop.asked() {
                bail!("the loader was stopped");
            }
            match self.sample(epoch, index) {
                Ok(sample) => samples.push(sample),
                Err(error) if self.on_error == OnError::Skip => skipped.push(format!("{error:#}")),
                Err(error) => return Err(error),
            }
        }
        if samples.is_empty() {
            return Ok(Made { batch: None, skipped });
        }
        if let Some(transform) = &self.transform {
            let mut rng = stream(self.seed, Purpose::Batch, epoch, position as u64);
            samples = transform.apply_batch(samples, &mut rng).context("transforming a batch")?;
        }
        Ok(Made { batch: Some(collate(samples)?), skipped })
    }
}

/// An epoch under way.
enum Epoch {
    /// Batches are made when asked for: those of the numbers from `next` on.
    Inline { number: u64, batches: Vec<Vec<usize>>, next: usize },
    /// Batches are made ahead.
    Threads(Pool<Made>),
}

/// Where the loader stands, for resuming: batches of which nothing could be read were not handed out, so the number of
/// batches handed out alone would not say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    epoch: usize,
    handed_out: usize,
    empty: usize,
}

/// Samples left out in this epoch.
#[derive(Debug, Default)]
struct Skipped {
    count: usize,
    /// What happened to the first few.
    examples: Vec<String>,
}

/// See [`BatchConfig`].
pub struct BatchLoader {
    name: String,
    source: Arc<Source>,
    order: Order,
    workers: usize,
    prefetch: usize,
    epoch: Option<Epoch>,
    position: Position,
    skipped: Skipped,
}

impl BatchLoader {
    /// A loader named `name` over `dataset`.
    ///
    /// # Errors
    /// When there would be no batch, or shapes of pictures are needed and unknown.
    pub fn new(
        config: &BatchConfig,
        dataset: Arc<dyn Dataset>,
        transform: Option<Arc<dyn Transform>>,
        seed: u64,
        name: String,
    ) -> Result<BatchLoader> {
        let dataset_name = config.dataset.node.to_string();
        let samples = dataset.len();
        ensure!(config.batch_size > 0, "batch_size must be 1 or more");
        ensure!(samples > 0, "{dataset_name} has no samples");
        let bins = config.group_by_aspect_ratio;
        let groups = bins.map(|bins| shape_groups(&*dataset, &dataset_name, bins)).transpose()?;
        let order = Order {
            samples,
            batch_size: config.batch_size,
            shuffle: config.shuffle,
            drop_last: config.drop_last,
            limit: config.limit_batches,
            groups,
        };
        ensure!(
            order.epoch_length() > 0,
            "{dataset_name} has {samples} samples, too few for one full batch of {}; lower batch_size, or leave out \
             drop_last and group_by_aspect_ratio",
            config.batch_size
        );
        let source = Source { dataset, dataset_name, transform, seed, on_error: config.on_error };
        Ok(BatchLoader {
            name,
            source: Arc::new(source),
            order,
            workers: config.workers,
            prefetch: config.prefetch,
            epoch: None,
            position: Position::default(),
            skipped: Skipped::default(),
        })
    }

    fn next_made(&mut self) -> Option<Result<Made>> {
        match self.epoch.as_mut()? {
            Epoch::Threads(pool) => pool.next(),
            Epoch::Inline { number, batches, next } => {
                let indices = batches.get(*next)?;
                *next += 1;
                let (number, position) = (*number, *next - 1);
                // As in a worker: on single pictures libtorch's threads cost more than they bring.
                let threads = tch::get_num_threads();
                tch::set_num_threads(1);
                let made = guarded(|| self.source.make(number, position, indices, &Stop::default()));
                tch::set_num_threads(threads);
                Some(made)
            }
        }
    }

    /// Says once an epoch what was left out.
    fn report_skipped(&mut self) {
        let Skipped { count, examples } = std::mem::take(&mut self.skipped);
        if count > 0 {
            let epoch = self.position.epoch + 1;
            let more = if count > examples.len() { "\n  …" } else { "" };
            let list: String = examples.iter().map(|example| format!("\n  {example}")).collect();
            tracing::warn!("{}: {count} sample(s) of epoch {epoch} were left out:{list}{more}", self.name);
        }
    }
}

impl Loader for BatchLoader {
    fn epoch_length(&self) -> Option<usize> {
        Some(self.order.epoch_length())
    }

    fn start_epoch(&mut self, epoch: usize, first_batch: usize) -> Result<()> {
        self.report_skipped();
        self.epoch = None;
        let resumed = self.position.epoch == epoch && self.position.handed_out == first_batch;
        let empty = if resumed { self.position.empty } else { 0 };
        self.position = Position { epoch, handed_out: first_batch, empty };
        let number = epoch as u64;
        let batches = self.order.batches(self.source.seed, number);
        let first = (first_batch + empty).min(batches.len());
        self.epoch = Some(if self.workers == 0 {
            Epoch::Inline { number, batches, next: first }
        } else {
            let (source, range) = (self.source.clone(), first..batches.len());
            let make = move |position: usize, stop: &Stop| source.make(number, position, &batches[position], stop);
            let workers = self.workers.min(range.len()).max(1);
            Epoch::Threads(Pool::start(&self.name, workers, workers * self.prefetch, range, Arc::new(make))?)
        });
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<Batch>> {
        ensure!(self.epoch.is_some(), "{}: a batch was asked for before the epoch began", self.name);
        while let Some(made) = self.next_made() {
            let Made { batch, skipped } = made.with_context(|| self.name.clone())?;
            self.skipped.count += skipped.len();
            let room = EXAMPLES - self.skipped.examples.len();
            self.skipped.examples.extend(skipped.into_iter().take(room));
            if batch.is_some() {
                self.position.handed_out += 1;
                return Ok(batch);
            }
            self.position.empty += 1;
        }
        let first = self.skipped.examples.first().cloned();
        self.report_skipped();
        match first {
            Some(first) if self.position.handed_out == 0 => {
                Err(anyhow!("{}: no sample of the epoch could be read; the first: {first}", self.name))
            }
            _ => Ok(None),
        }
    }
}

impl Stateful for BatchLoader {
    fn state(&self) -> Result<State> {
        State::of(&self.position)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.position = state.to().with_context(|| format!("{}: the saved state is not a loader's", self.name))?;
        Ok(())
    }
}

/// The group of each sample by the shape of its picture.
fn shape_groups(dataset: &dyn Dataset, name: &str, bins: usize) -> Result<Vec<usize>> {
    let group = |index| {
        let ratio = dataset.aspect_ratio(index).ok_or_else(|| {
            anyhow!("{name} does not know the shapes of its pictures beforehand; leave out group_by_aspect_ratio")
        })?;
        Ok(aspect_ratio_group(ratio, bins))
    };
    (0..dataset.len()).map(group).collect()
}

#[cfg(test)]
mod tests;
