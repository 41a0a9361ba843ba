//! What the rules of `pipe check` learn of the data.

use pipe_core::Instance;
use pipe_plan::checks::data::{Data, Dataset};

use crate::graph::Graph;

/// What is known of the datasets and loaders that are built.
pub fn data_of(graph: &Graph) -> Data {
    let mut data = Data::default();
    for (id, instance) in graph.nodes.borrow().iter() {
        match instance {
            Instance::Dataset(dataset) => {
                let known = Dataset {
                    samples: dataset.len() as u64,
                    class_names: dataset.class_names().into_iter().collect(),
                    contents: dataset.contents(),
                };
                data.datasets.insert(id.clone(), known);
            }
            Instance::Loader(loader) => {
                let length = loader.try_borrow().ok().and_then(|loader| loader.epoch_length());
                data.batches.extend(length.map(|length| (id.clone(), length as u64)));
            }
            _ => {}
        }
    }
    data
}
