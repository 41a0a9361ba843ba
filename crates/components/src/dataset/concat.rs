//! Several datasets as one.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use pipe_core::facts::Contents;
use pipe_core::{BuildContext, Component, Config, Dataset, Instance, Kind, Property, PropertyType, Ref};
use pipe_data::{Extent, Fingerprint, Sample};

/// Several datasets as one, one after the other: `ConcatDataset` of torch. Their labels must mean the same classes.
///
/// For training on several folders. An evaluation such as `coco_ap` needs the annotations of one dataset: give each an engine of
/// its own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcatConfig {
    /// The datasets.
    #[schemars(length(min = 1))]
    pub datasets: Vec<Ref<dyn Dataset>>,
}

impl Config for ConcatConfig {
    const KIND: Kind = Kind::Dataset;
    const TYPE: &'static str = "concat";
    const EXAMPLE: &'static str = r#"
[dataset.day]
type = "image_folder"
root = "data/day"

[dataset.night]
type = "image_folder"
root = "data/night"
class_names = "dataset.day:class_names"

[dataset.train]
type = "concat"
datasets = ["dataset.day", "dataset.night"]
"#;

    fn properties() -> &'static [Property] {
        &[
            Property { name: "num_classes", ty: PropertyType::Integer, doc: "That of the dataset with the most." },
            Property { name: "class_names", ty: PropertyType::Strings, doc: "Those of the dataset with the most." },
        ]
    }
}

impl Component for ConcatConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let parts = self.datasets.iter().map(|part| Ok((part.node.to_string(), ctx.get(part)?)));
        Ok(Instance::dataset(Concat::new(parts.collect::<Result<_>>()?)?))
    }
}

pipe_core::register!(ConcatConfig);

/// See [`ConcatConfig`].
struct Concat {
    parts: Vec<(String, Arc<dyn Dataset>)>,
}

impl Concat {
    fn new(parts: Vec<(String, Arc<dyn Dataset>)>) -> Result<Concat> {
        for (name, part) in &parts {
            for (other_name, other) in &parts {
                let differs = part.class_names().into_iter().find_map(|(label, class)| {
                    let theirs = other.class_names();
                    let found = theirs.into_iter().find(|(theirs, name)| (*theirs == label) != (*name == class))?;
                    Some(((label, class), found))
                });
                if let Some(((label, class), (their_label, their_class))) = differs {
                    bail!(
                        "the labels of {name} and {other_name} mean other classes: {label} {class} and {their_label} \
                         {their_class}; give one the classes of the other (`classes` or `class_names`)"
                    );
                }
            }
        }
        Ok(Concat { parts })
    }

    /// The dataset that has the sample, and its place there.
    fn find(&self, mut index: usize) -> Option<(&dyn Dataset, usize)> {
        for (_, part) in &self.parts {
            if index < part.len() {
                return Some((&**part, index));
            }
            index -= part.len();
        }
        None
    }

    fn with_most_classes(&self) -> Result<&Arc<dyn Dataset>> {
        let most = self
            .parts
            .iter()
            .map(|(_, part)| part)
            .max_by_key(|part| part.property("num_classes").ok().and_then(|count| count.as_u64()));
        most.context("it has no datasets")
    }
}

impl Dataset for Concat {
    fn len(&self) -> usize {
        self.parts.iter().map(|(_, part)| part.len()).sum()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let (part, place) = self.find(index).with_context(|| format!("there is no sample {index}"))?;
        part.get(place)
    }

    fn property(&self, name: &str) -> Result<Value> {
        ensure!(["num_classes", "class_names"].contains(&name), "a concatenation has no property `{name}`");
        self.with_most_classes()?.property(name)
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        let (part, place) = self.find(index)?;
        part.file(place)
    }

    fn extent(&self, index: usize) -> Option<Extent> {
        let (part, place) = self.find(index)?;
        part.extent(place)
    }

    fn classes(&self, index: usize) -> Option<Vec<i64>> {
        let (part, place) = self.find(index)?;
        part.classes(place)
    }

    fn class_names(&self) -> Vec<(i64, String)> {
        self.with_most_classes().map(|part| part.class_names()).unwrap_or_default()
    }

    fn contents(&self) -> Option<Contents> {
        let mut all = Contents::default();
        for (_, part) in &self.parts {
            let Contents { labels, boxes, outside, mirror_pairs } = part.contents()?;
            labels.into_iter().for_each(|(label, count)| *all.labels.entry(label).or_default() += count);
            all.boxes.extend(boxes);
            all.outside += outside;
            all.mirror_pairs.extend(mirror_pairs);
        }
        Some(all)
    }

    fn fingerprint(&self) -> Option<String> {
        let each = self.parts.iter().map(|(_, part)| part.fingerprint());
        let each = each.collect::<Option<Vec<_>>>()?;
        Some(each.iter().fold(Fingerprint::default(), |sum, part| sum.with(part.as_bytes())).text())
    }

    fn report(&self) -> Option<String> {
        let sizes: Vec<String> = self.parts.iter().map(|(name, part)| format!("{} of {name}", part.len())).collect();
        Some(format!("{} samples: {}", self.len(), sizes.join(", ")))
    }
}
