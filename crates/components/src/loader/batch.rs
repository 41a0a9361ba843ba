//! Batches of samples, prepared by worker threads.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::facts::{self, Facts};
use pipe_core::ranks::part;
use pipe_core::{
    BuildContext, Component, Config, Dataset, Instance, Kind, Problems, Property, PropertyType, Ref, State, Stateful,
    Transform,
};
use pipe_core::{Loader, Outlook, Stage, Which};
use pipe_data::Batch;
use pipe_data::order::{Entry, Order, Used, aspect_ratio_group};
use pipe_data::pool::{Pool, Threads};
use pipe_data::sampling::Sampling;
use pipe_native::is_accelerator;
use tch::Device;

mod outlook;
mod position;
mod sampler;
mod size;
mod source;
mod trace;

use outlook::Ahead;
use position::{Position, Rule};
pub use sampler::Sampler;
pub use size::BatchSize;
pub use source::OnError;
use source::{Batches, Made, Source};

/// Groups a dataset's samples into batches, loaded and transformed by worker threads.
///
/// The order of an epoch and the random numbers of each sample depend only on the pipeline's seed, the epoch and the
/// sample: any number of workers gives the same batches, and a resumed run continues with the exact batch it stopped at.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// The dataset to load from.
    pub dataset: Ref<dyn Dataset>,
    /// The transform applied to each sample.
    #[serde(default)]
    pub transform: Option<Ref<dyn Transform>>,
    /// Batch size: samples per batch; or `"auto"`, the most that the accelerator's memory has room for: before the run begins, the
    /// batches of its schedule that need most are tried.
    #[serde(default)]
    pub batch_size: BatchSize,
    /// Whether to shuffle the samples anew every epoch.
    #[serde(default)]
    pub shuffle: bool,
    /// A sampler that balances classes: it chooses the samples of each epoch, in random order, in place of `shuffle`.
    #[serde(default)]
    pub sampler: Option<Sampler>,
    /// Worker threads that load and transform samples ahead of the training; with 0 a batch is begun when it is needed. While training
    /// waits for a batch, the threads it computes with help.
    #[schemars(range(max = 1024))]
    #[serde(default = "four")]
    pub workers: usize,
    /// Batches prefetched per worker.
    #[schemars(range(min = 1, max = 1024))]
    #[serde(default = "two")]
    pub prefetch: usize,
    /// Whether to drop the last incomplete batch.
    #[serde(default)]
    pub drop_last: bool,
    /// Maximum number of batches per epoch.
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub limit_batches: Option<usize>,
    /// Groups images of similar aspect ratio into batches: this many bins of width / height between 1/2 and 1, as many
    /// between 1 and 2, and one for each end beyond. All batches are then full.
    #[schemars(range(max = 100))]
    #[serde(default)]
    pub group_by_aspect_ratio: Option<usize>,
    /// What to do when a sample cannot be loaded or transformed.
    #[serde(default)]
    pub on_error: OnError,
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

[loader.balanced]
type = "batch"
dataset = "dataset.train"
batch_size = 64
sampler = { type = "weighted" }
"#;

    fn facts(&self) -> Facts {
        let grouped =
            self.group_by_aspect_ratio.map(|_| ("group_by_aspect_ratio", "images that fill no batch of like images"));
        let dropped = self.drop_last.then_some(("drop_last", "the samples of the last incomplete batch"));
        let skipped =
            (self.on_error == OnError::Skip).then_some(("on_error", "samples that cannot be read, without an error"));
        let sampled = self.sampler.is_some().then_some(("sampler", "each sample once"));
        Facts {
            batches: self.batch_size.given().map(|size| facts::Batches {
                size: size as u64,
                shuffle: self.shuffle || self.sampler.is_some(),
                // An epoch of a sampler is not one of the dataset.
                limited: self.limit_batches.is_some() || self.sampler.is_some(),
                incomplete_last: !self.drop_last && self.group_by_aspect_ratio.is_none(),
            }),
            leaves_out: [grouped, dropped, skipped, sampled].into_iter().flatten().collect(),
            ..Facts::default()
        }
    }

    fn check(&self, problems: &mut Problems) {
        if self.shuffle && self.sampler.is_some() {
            let message = "a sampler already gives every epoch a random order of its own";
            problems.at("shuffle", message, "remove `shuffle`, or the sampler");
        }
    }

    fn properties() -> &'static [Property] {
        &[
            Property { name: "batches", ty: PropertyType::Integer, doc: "Batches per epoch." },
            Property { name: "samples", ty: PropertyType::Integer, doc: "Samples in the dataset." },
            Property { name: "batch_size", ty: PropertyType::Integer, doc: "Samples per batch." },
        ]
    }
}

impl Component for BatchConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let dataset = ctx.get(&self.dataset)?;
        let transform = self.transform.as_ref().map(|port| ctx.get(port)).transpose()?;
        let name = ctx.node.to_string();
        ctx.offer("samples", dataset.len());
        ctx.offer("batch_size", self.batch_size.or_one());
        let loader = BatchLoader::new(&self, dataset, transform, ctx.seed, ctx.device, name)?;
        ctx.offer("batches", loader.order.epoch_length());
        Ok(Instance::loader(loader))
    }
}

pipe_core::register!(BatchConfig);

/// Skipped samples that are listed individually, per epoch.
const EXAMPLES: usize = 8;

/// Samples skipped in this epoch.
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
    /// Whether the batch size is known: not before it has been looked for.
    chosen: bool,
    workers: usize,
    prefetch: usize,
    epoch: Option<Pool<Batches>>,
    /// The next one, which was looked at.
    ahead: Option<Result<Made>>,
    rule: Rule,
    position: Position,
    /// Batches in the epoch, less those of other rules.
    batches: usize,
    skipped: Skipped,
    /// Whether it has been said what grouping leaves out.
    said: bool,
    /// Which part of each batch it gives: the rank, of so many.
    part: (usize, usize),
    /// How many samples of each batch that is, and how many it has.
    shares: Vec<(usize, usize)>,
    /// Of the one given last.
    share: (usize, usize),
}

impl BatchLoader {
    /// A loader named `name` over `dataset`.
    ///
    /// # Errors
    /// When there would be no batch, or image sizes are needed and unknown.
    pub fn new(
        config: &BatchConfig,
        dataset: Arc<dyn Dataset>,
        transform: Option<Arc<dyn Transform>>,
        seed: u64,
        device: Device,
        name: String,
    ) -> Result<BatchLoader> {
        let dataset_name = config.dataset.node.to_string();
        let samples = dataset.len();
        ensure!(samples > 0, "{dataset_name} has no samples");
        let bins = config.group_by_aspect_ratio;
        let groups = bins.map(|bins| shape_groups(&*dataset, &dataset_name, bins)).transpose()?;
        let sampling = config.sampler.as_ref().map(|sampler| sampler.of(&*dataset, &dataset_name)).transpose()?;
        let order = Order {
            samples: sampling.as_ref().map_or(samples, Sampling::count),
            batch_size: config.batch_size.or_one(),
            shuffle: config.shuffle,
            drop_last: config.drop_last,
            limit: config.limit_batches,
            groups,
            sampling,
        };
        ensure!(
            order.epoch_length() > 0,
            "{dataset_name} has {} samples, too few for one full batch of {}; lower batch_size, or remove \
             drop_last and group_by_aspect_ratio",
            order.samples,
            order.batch_size
        );
        let rule = Rule {
            batch_size: order.batch_size,
            drop_last: config.drop_last,
            limit_batches: config.limit_batches,
            group_by_aspect_ratio: bins,
            sampler: config.sampler.clone(),
        };
        let source = Source {
            dataset,
            dataset_name,
            transform,
            transform_name: config.transform.as_ref().map(|transform| transform.node.to_string()).unwrap_or_default(),
            seed,
            on_error: config.on_error,
            pin: is_accelerator(device),
        };
        Ok(BatchLoader {
            name,
            source: Arc::new(source),
            order,
            chosen: config.batch_size.given().is_some(),
            workers: config.workers,
            prefetch: config.prefetch,
            epoch: None,
            ahead: None,
            rule,
            position: Position::default(),
            batches: 0,
            skipped: Skipped::default(),
            said: false,
            part: (0, 1),
            shares: Vec::new(),
            share: (0, 0),
        })
    }

    /// This rank's part of a batch, and how many of how many samples that is.
    fn own(&self, mut entries: Vec<Entry>) -> (Vec<Entry>, (usize, usize)) {
        let (all, (rank, size)) = (entries.len(), self.part);
        let range = part(all, rank, size);
        entries.truncate(range.end);
        entries.drain(..range.start);
        let own = entries.len();
        (entries, (own, all))
    }

    fn next_made(&mut self) -> Option<Result<Made>> {
        if let Some(made) = self.ahead.take() {
            return Some(made);
        }
        self.epoch.as_mut()?.next()
    }

    /// A part without samples: where others have theirs, this rank goes along without.
    fn empty(&self) -> Option<Batch> {
        (self.part.1 > 1).then(|| Batch::new(0))
    }

    /// The position at a batch of an epoch: where a resume goes on, with what the run before it used of the epoch.
    fn enter(&self, epoch: usize, first_batch: usize) -> Position {
        let position = &self.position;
        if (position.epoch, position.handed_out) != (epoch, first_batch) || first_batch == 0 {
            return Position::at(epoch, first_batch, self.rule.clone());
        }
        if position.rule == self.rule {
            return position.clone();
        }
        let begun_again = |why: &str| {
            tracing::warn!("{}: {why}, so epoch {} begins again", self.name, epoch + 1);
            Position::at(epoch, 0, self.rule.clone())
        };
        if position.rule.sampler != self.rule.sampler {
            return begun_again("another sampler chose the samples before");
        }
        let Some(order) = self.order_of(&position.rule) else { return begun_again("the images' sizes are unknown") };
        let under = position.under(self.rule.clone(), &order, self.source.seed);
        let (used, samples) = (under.used.count(), self.order.samples);
        tracing::warn!(
            "{}: {used} of {samples} samples of epoch {} were used before, in batches of {}; the others come in batches of {}, of \
             which transforms of whole batches see others than without the change",
            self.name,
            epoch + 1,
            position.rule.batch_size,
            self.rule.batch_size
        );
        under
    }

    /// The order of an epoch under another rule.
    fn order_of(&self, rule: &Rule) -> Option<Order> {
        let groups = match rule.group_by_aspect_ratio {
            Some(bins) => Some(shape_groups(&*self.source.dataset, &self.source.dataset_name, bins).ok()?),
            None => None,
        };
        let Rule { batch_size, drop_last, limit_batches: limit, .. } = *rule;
        Some(Order { batch_size, drop_last, limit, groups, ..self.order.clone() })
    }

    /// The batch that was given last: its number in the epoch, and what is in it.
    fn last(&self) -> Result<(u64, Vec<Entry>)> {
        let position = &self.position;
        ensure!(
            position.rule.sampler == self.rule.sampler,
            "{}: another sampler chose the batch that the run stopped in; go on with that one, and change it at the end of an epoch",
            self.name
        );
        let order = self.order_of(&position.rule).context("the images' sizes are unknown")?;
        let batches = order.batches(self.source.seed, position.epoch as u64, &position.used);
        let last = position.last().and_then(|last| Some((last, batches.into_iter().nth(last)?)));
        let (last, entries) = last.with_context(|| format!("{}: there was no batch in this epoch", self.name))?;
        Ok(((position.used.batches + last) as u64, entries))
    }

    /// Says once what grouping leaves out of an epoch and what it uses again.
    fn say_left_out(&mut self, batches: &[Vec<Entry>]) {
        if self.order.groups.is_none() || self.position.used.count() > 0 || std::mem::replace(&mut self.said, true) {
            return;
        }
        let (left_out, repeated) = self.order.left_out_and_repeated(batches);
        if left_out + repeated > 0 && self.order.limit.is_none() {
            tracing::info!(
                "{}: to fill batches of like images, this epoch leaves out {left_out} of {} images and uses {repeated} again",
                self.name,
                self.order.samples
            );
        }
    }

    /// Reports once per epoch what was skipped.
    fn report_skipped(&mut self) {
        let Skipped { count, examples } = std::mem::take(&mut self.skipped);
        if count > 0 {
            let epoch = self.position.epoch + 1;
            let more = if count > examples.len() { "\n  …" } else { "" };
            let list: String = examples.iter().map(|example| format!("\n  {example}")).collect();
            tracing::warn!("{}: {count} sample(s) of epoch {epoch} were skipped:{list}{more}", self.name);
        }
    }
}

impl Loader for BatchLoader {
    fn epoch_length(&self) -> Option<usize> {
        Some(self.order.epoch_length())
    }

    fn start_epoch(&mut self, epoch: usize, first_batch: usize) -> Result<()> {
        ensure!(
            self.chosen,
            "{}: no batch size has been looked for; give `batch_size` a number in place of \"auto\"",
            self.name
        );
        self.report_skipped();
        (self.epoch, self.ahead) = (None, None);
        self.position = self.enter(epoch, first_batch);
        let epoch = epoch as u64;
        let batches = self.order.batches(self.source.seed, epoch, &self.position.used);
        self.say_left_out(&batches);
        self.batches = batches.len();
        let (first, before) = (self.position.next().min(batches.len()), self.position.used.batches);
        let (source, range) = (self.source.clone(), first..batches.len());
        let workers = self.workers.min(range.len());
        let idle = (tch::get_num_threads().max(1) as usize).saturating_sub(workers);
        let threads = Threads { workers, helpers: idle.min(self.order.batch_size) };
        let (batches, shares) = batches.into_iter().map(|entries| self.own(entries)).unzip();
        self.shares = shares;
        let work = Batches { source, epoch, before, batches };
        self.epoch = Some(Pool::start(&self.name, threads, workers * self.prefetch, range, work)?);
        Ok(())
    }

    fn take_part(&mut self, rank: usize, size: usize) -> Result<()> {
        self.part = (rank, size);
        Ok(())
    }

    fn share(&self) -> Option<(usize, usize)> {
        (self.part.1 > 1).then_some(self.share)
    }

    fn last_batch(&mut self) -> Result<Batch> {
        let (number, entries) = self.last()?;
        let (entries, share) = self.own(entries);
        self.share = share;
        let made = self.source.make_here(self.position.epoch as u64, number, &entries);
        let batch = made.with_context(|| self.name.clone())?.batch.or_else(|| self.empty());
        batch.with_context(|| format!("{}: the batch is empty now", self.name))
    }

    fn trace(&mut self, which: Which, see: &mut dyn FnMut(Stage<'_>)) -> Result<()> {
        let (epoch, (number, entries)) = match which {
            Which::Last => (self.position.epoch as u64, self.last()?),
            Which::Of { pass, number } => {
                let batches = self.order.batches(self.source.seed, pass as u64, &Used::default());
                let entries = batches.into_iter().nth(number);
                let none = || format!("{}: epoch {} has no batch {number}", self.name, pass + 1);
                (pass as u64, (number as u64, entries.with_context(none)?))
            }
        };
        self.source.trace((epoch, number), &entries, see).with_context(|| self.name.clone())
    }

    fn outlook(&self, batch_size: Option<usize>) -> Option<Box<dyn Outlook>> {
        let rule = Rule { batch_size: batch_size.unwrap_or(self.rule.batch_size), ..self.rule.clone() };
        Some(Box::new(Ahead::new(self.source.clone(), self.order_of(&rule)?, self.workers)))
    }

    fn wait(&mut self, longest: Duration) -> bool {
        match &mut self.epoch {
            Some(pool) if self.ahead.is_none() => pool.wait(longest),
            _ => true,
        }
    }

    fn peek(&mut self) -> Option<&Batch> {
        if let (None, Some(pool)) = (&self.ahead, &mut self.epoch)
            && pool.wait(Duration::ZERO)
        {
            self.ahead = pool.next();
        }
        self.ahead.as_ref()?.as_ref().ok()?.batch.as_ref()
    }

    fn next_batch(&mut self) -> Result<Option<Batch>> {
        ensure!(self.epoch.is_some(), "{}: a batch was requested before the epoch started", self.name);
        while let Some(made) = self.next_made() {
            let Made { batch, skipped } = made.with_context(|| self.name.clone())?;
            self.skipped.count += skipped.len();
            let room = EXAMPLES - self.skipped.examples.len();
            self.skipped.examples.extend(skipped.into_iter().take(room));
            let batch = batch.or_else(|| self.empty());
            if batch.is_some() {
                self.share = self.shares.get(self.position.next()).copied().unwrap_or_default();
                self.position.handed_out += 1;
                self.position.empty_before = self.position.empty;
                if self.position.next() >= self.batches {
                    self.report_skipped();
                }
                return Ok(batch);
            }
            self.position.empty += 1;
        }
        let first = self.skipped.examples.first().cloned();
        self.report_skipped();
        match first {
            Some(first) if self.position.handed_out == 0 => {
                Err(anyhow!("{}: no sample of the epoch could be loaded; the first error: {first}", self.name))
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
        self.position = state.to().with_context(|| format!("{}: the saved state is not this loader's", self.name))?;
        Ok(())
    }
}

/// The group of each sample by the aspect ratio of its image.
fn shape_groups(dataset: &dyn Dataset, name: &str, bins: usize) -> Result<Vec<usize>> {
    let group = |index| {
        let extent = dataset.extent(index).ok_or_else(|| {
            anyhow!("{name} does not know the sizes of its images in advance; remove group_by_aspect_ratio")
        })?;
        Ok(aspect_ratio_group((extent.width as f64 / extent.height as f64) as f32, bins))
    };
    (0..dataset.len()).map(group).collect()
}

#[cfg(test)]
mod tests;
