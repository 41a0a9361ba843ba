//! What the rules of `pipe check` learn of the data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_core::{Dataset as Samples, Instance};
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
                    report: dataset.report(),
                    objects: objects(&**dataset).unwrap_or_default(),
                    files: files(&**dataset),
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

/// Objects of each sample.
fn objects(dataset: &dyn Samples) -> Option<Vec<u32>> {
    (0..dataset.len()).map(|index| dataset.extent(index)?.objects.try_into().ok()).collect()
}

/// The files of a dataset. Only their folders are followed through links, since each file would cost time.
fn files(dataset: &dyn Samples) -> Vec<PathBuf> {
    let mut folders: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut whole = |path: PathBuf| {
        let (folder, name) = (path.parent().unwrap_or(Path::new("")), path.file_name()?);
        if let Some(known) = folders.get(folder) {
            return Some(known.join(name));
        }
        let real = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        folders.insert(folder.to_owned(), real.clone());
        Some(real.join(name))
    };
    (0..dataset.len()).filter_map(|index| whole(dataset.file(index)?)).collect()
}
