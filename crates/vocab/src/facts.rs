//! What a component says of itself for the rules of `pipe check`: what its options mean, where types and ranges cannot tell.
//!
//! Rules know no component by name. A component that says nothing is never found fault with, and of a plugin's component nothing
//! is known ([`Facts::unknown`]): a rule that needs something *not* to be so lets it be.

use std::collections::BTreeMap;

use crate::value_ref::ValueRef;

/// The facts of one configuration. Each field is for the kind of node that its heading names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Any kind: whether there may be more to know than is said.
    pub unknown: bool,

    /// Dataset: what it reads, apart from how much of it; two that read the same have samples in common.
    pub reads: Option<Reads>,
    /// Dataset: what its samples show that means something else in a mirror: "digits".
    pub mirrored: Option<&'static str>,
    /// Dataset: whether it takes only a part of what it reads.
    pub limited: bool,
    /// Dataset, loader: options under which samples are left out, and which.
    pub leaves_out: Vec<(&'static str, &'static str)>,

    /// Transform: whether what it does depends on chance.
    pub random: bool,
    /// Transform: whether it mirrors some images.
    pub mirrors: bool,
    /// Transform: the keypoints that it swaps in mirrored images.
    pub swaps: Vec<[usize; 2]>,
    /// Transform: whether it swaps those whose names say so.
    pub swaps_by_name: bool,
    /// Transform: whether objects have another size afterwards.
    pub resizes: bool,
    /// Transform: what it subtracts from pixels and divides them by. Model: the same, if it does so itself.
    pub normalizes: Option<Normalization>,

    /// Loader: how it makes batches.
    pub batches: Option<Batches>,

    /// Model: the option that names its weights, if it has such.
    pub weights: Option<&'static str>,
    /// Model: whether its weights were trained on normalized images, which it does not normalize itself.
    pub wants_normalized: bool,
    /// Model: whether it normalizes by the statistics of a batch while it is trained.
    pub batch_norm: bool,
    /// Model: the number of its classes, and the option that says so.
    pub classes: Option<(u64, &'static str)>,
    /// Model: which boxes it can find.
    pub anchors: Option<Anchors>,

    /// Optimizer: its learning rate and how it uses it.
    pub rule: Option<UpdateRule>,

    /// Scheduler: where it leads.
    pub schedule: Option<Schedule>,

    /// Engine: what it does with its model.
    pub role: Option<Role>,
    /// Engine: how many batches make a step of the optimizer, and the option that says so.
    pub accumulates: Option<(u64, &'static str)>,
    /// Engine: the tags under which it records, and the options that say so. Of metrics, what their tags begin with.
    pub tags: Vec<(String, &'static str)>,

    /// Metric: whether it compares with the dataset that it names.
    pub truth: bool,
    /// Metric, engine: which of its values are better.
    pub better: Vec<(String, Better)>,

    /// Handler, scheduler: the values that it watches, and which it takes for better.
    pub watches: Vec<Watched>,
    /// Handler, scheduler: how many calls without an improvement it waits for, and the option that says so.
    pub patience: Option<(u64, &'static str)>,
    /// Handler: whether it saves weights.
    pub saves: bool,
    /// Handler: whether a call takes much longer than an iteration.
    pub costly: bool,
    /// Handler: whether it brings the average that it names up to date. Model: whether it is the average of the one that it names.
    pub averages: bool,
}

impl Facts {
    /// Of a metric whose values are all better one way.
    pub fn of_values(names: Vec<String>, better: Better) -> Facts {
        Facts { better: names.into_iter().map(|name| (name, better)).collect(), ..Facts::default() }
    }
}

/// What a dataset reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    /// The files, and the split in them that has a name.
    pub what: String,
    /// The part of it, and how the parts were drawn: those of one draw have nothing in common.
    pub part: Option<[String; 2]>,
}

impl Reads {
    /// Whether both have samples.
    pub fn overlaps(&self, other: &Reads) -> bool {
        let apart = self.part.as_ref().zip(other.part.as_ref());
        self.what == other.what && !apart.is_some_and(|([a, of_a], [b, of_b])| a != b && of_a == of_b)
    }
}

/// How pixels are normalized, channel by channel: `(pixel − mean) / std`, pixels in 0..1.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    /// The mean of each channel, or one for all.
    pub mean: Vec<f64>,
    /// The standard deviation of each channel, or one for all.
    pub std: Vec<f64>,
}

/// How a loader makes batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// Samples per batch.
    pub size: u64,
    /// Whether each epoch has an order of its own.
    pub shuffle: bool,
    /// Whether an epoch is cut short.
    pub limited: bool,
    /// Whether the last batch may have fewer samples.
    pub incomplete_last: bool,
}

/// Which boxes a detector can find, in pixels of the image as it sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchors {
    /// The smallest and the largest anchor: the side of a square of the same area.
    pub sides: [f64; 2],
    /// The length of the shorter side of images, and the most of the longer; as they come where it does not resize.
    pub resize: Option<[f64; 2]>,
}

impl Anchors {
    /// The side of a box as the detector sees it, where nothing else changes its size before.
    pub fn seen(&self, size: &BoxSize) -> f64 {
        let [short, long] = [size.image[0].min(size.image[1]), size.image[0].max(size.image[1])].map(f64::from);
        let scale = self.resize.map_or(1.0, |[min, max]| (min / short).min(max / long));
        f64::from(size.side) * scale
    }
}

/// How an optimizer updates weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateRule {
    /// The configured learning rate.
    pub lr: f64,
    /// Whether each weight moves by about the learning rate, however large its gradient is (Adam).
    pub adaptive: bool,
    /// Whether weight decay goes through the gradient's statistics, so that it works differently for each weight.
    pub coupled_decay: bool,
}

/// Where a scheduler leads, in steps of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Steps at which something changes, and the option that says so.
    pub changes: Option<(Vec<u64>, &'static str)>,
    /// The step at which it is at its end, and the option that says so.
    pub end: Option<(u64, &'static str)>,
    /// What it does behind its end.
    pub behind: Behind,
    /// Whether it is a beginning only: a warm-up.
    pub warms_up: bool,
    /// The option that makes a learning rate grow without end, if it does; other settings may be meant to.
    pub grows: Option<&'static str>,
    /// Whether its values take the place of the configured one, rather than being fractions of it.
    pub absolute: bool,
}

/// What a scheduler does behind its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Behind {
    /// It stays where it is, at a value that one can train with.
    #[default]
    Stays,
    /// It goes back up.
    TurnsBack,
    /// It stays at a value so small that nothing is learned.
    Vanishes,
}

/// What an engine does with its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Trains it.
    Trains,
    /// Evaluates it.
    Evaluates,
}

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Lower ones.
    Lower,
    /// Higher ones.
    Higher,
}

/// A value that something is decided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The value.
    pub value: ValueRef,
    /// Which are taken for better.
    pub better: Better,
    /// Keys and indices from the node to the option that says so.
    pub option: Vec<String>,
}

/// What the index of a dataset says of its samples, without an image decoded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    /// Objects, or images where each has one class, by label.
    pub labels: BTreeMap<i64, u64>,
    /// The boxes of all objects.
    pub boxes: Vec<BoxSize>,
    /// How many of these boxes reach more than a pixel out of their image, or lie outside.
    pub outside: u64,
    /// The keypoints that change sides in a mirror, by their names.
    pub mirror_pairs: Vec<[usize; 2]>,
}

impl Contents {
    /// Of images with one label each.
    pub fn of_labels(all: impl Iterator<Item = i64>) -> Contents {
        let mut contents = Contents::default();
        all.for_each(|label| *contents.labels.entry(label).or_default() += 1);
        contents
    }
}

/// The size of a box in its image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxSize {
    /// The side of a square of the same area, in pixels.
    pub side: f32,
    /// Height and width of the image in pixels.
    pub image: [f32; 2],
}
