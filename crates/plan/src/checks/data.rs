//! What is known of datasets once their indexes are open.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pipe_vocab::NodeId;
use pipe_vocab::facts::Contents;

/// What is known of the data of a pipeline.
#[derive(Debug, Default)]
pub struct Data {
    /// The datasets that could be opened.
    pub datasets: BTreeMap<NodeId, Dataset>,
    /// Batches of an epoch of each loader.
    pub batches: BTreeMap<NodeId, u64>,
}

/// What is known of a dataset.
#[derive(Debug, Default)]
pub struct Dataset {
    /// Number of samples.
    pub samples: u64,
    /// Names of the classes by label.
    pub class_names: BTreeMap<i64, String>,
    /// What its index says of the samples, where it says anything.
    pub contents: Option<Contents>,
    /// What it says of itself: how many samples, what is odd about them.
    pub report: Option<String>,
    /// Objects of each sample, where its index says so of all.
    pub objects: Vec<u32>,
    /// The image files of the samples, whatever links lead to them; none where they lie together in one file.
    pub files: Vec<PathBuf>,
}
