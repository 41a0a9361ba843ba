//! Loaders: batches out of a dataset and a transform.

pub mod batch;
