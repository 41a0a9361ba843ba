//! What differs between runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::filter::text_of;
use crate::options;
use crate::run::{Metric, Run};

/// An option or a fact that is not the same in all of the runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Its key.
    pub key: String,
    /// Its value in each run; null where a run has none.
    pub values: Vec<Value>,
    /// Where each value came from, as far as it was kept.
    pub origins: Vec<Option<String>>,
}

/// A curve of one of the runs at least.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// Its tag.
    pub tag: String,
    /// What it came to in each run.
    pub values: Vec<Option<Metric>>,
}

/// What differs between runs; lists of values are in the order of the runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The runs, by name.
    pub runs: Vec<String>,
    /// Their folders.
    pub folders: Vec<std::path::PathBuf>,
    /// The options that are not the same in all of them.
    pub options: Vec<Difference>,
    /// What of their data, versions and device is not.
    pub facts: Vec<Difference>,
    /// Their curves.
    pub metrics: Vec<Curve>,
    /// The edits of each.
    pub edits: Vec<Vec<Edit>>,
}

/// An edit of a run's pipeline while it was at work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Edit {
    /// The step after which it took effect.
    pub step: u64,
    /// What it changed.
    pub changes: Vec<String>,
}

/// Compares runs.
pub fn compare(runs: &[Run]) -> Comparison {
    let all: Vec<&BTreeMap<String, Value>> = runs.iter().map(|run| &run.options).collect();
    let origins: Vec<BTreeMap<String, String>> = runs.iter().map(|run| options::origins(&run.folder)).collect();
    let mut differing = differing(&all);
    for option in &mut differing {
        option.origins = origins.iter().map(|origins| origins.get(&option.key).cloned()).collect();
    }
    let facts: Vec<BTreeMap<String, Value>> = runs.iter().map(facts).collect();
    let tags: BTreeSet<&String> = runs.iter().flat_map(|run| run.metrics.keys()).collect();
    let of = |tag: &String| runs.iter().map(|run| run.metrics.get(tag).cloned()).collect();
    Comparison {
        runs: runs.iter().map(|run| run.name.clone()).collect(),
        folders: runs.iter().map(|run| run.folder.clone()).collect(),
        options: differing,
        facts: self::differing(&facts.iter().collect::<Vec<_>>()),
        metrics: tags.into_iter().map(|tag| Curve { tag: tag.clone(), values: of(tag) }).collect(),
        edits: runs.iter().map(|run| edits(&run.folder)).collect(),
    }
}

fn differing(all: &[&BTreeMap<String, Value>]) -> Vec<Difference> {
    let keys: BTreeSet<&String> = all.iter().flat_map(|options| options.keys()).collect();
    let of = |key: &String| -> Vec<Value> {
        all.iter().map(|options| options.get(key).cloned().unwrap_or_default()).collect()
    };
    let each = keys.into_iter().map(|key| Difference { key: key.clone(), values: of(key), origins: Vec::new() });
    each.filter(|option| option.values.iter().any(|value| *value != option.values[0])).collect()
}

/// What `run.json` says of data, versions, device and commit.
fn facts(run: &Run) -> BTreeMap<String, Value> {
    let info = pipe_history::standing::read(&run.folder);
    let mut facts = BTreeMap::new();
    for key in ["data", "versions", "git", "device", "machine"] {
        leaves(key.to_owned(), info.get(key).cloned().unwrap_or_default(), &mut facts);
    }
    // Without why it is this one.
    if let Some(Value::String(device)) = facts.get_mut("device") {
        device.truncate(device.find(',').unwrap_or(device.len()));
    }
    facts
}

fn leaves(key: String, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => {
            table.into_iter().for_each(|(name, value)| leaves(format!("{key}.{name}"), value, into))
        }
        Value::Null => {}
        value => {
            into.insert(key, value);
        }
    }
}

/// The edits that a run's pipeline went through, from `pipelines/index.jsonl`.
pub fn edits(run: &std::path::Path) -> Vec<Edit> {
    let text = pipe_vocab::files::read_text(&run.join("pipelines/index.jsonl"), 64 << 20).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let applied = lines.filter(|line| line["outcome"] == "applied");
    let text = |change: &Value| format!("{}: {}", text_of(&change["name"]), text_of(&change["change"]));
    let texts = |changes: &Value| changes.as_array().into_iter().flatten().map(text).collect();
    applied
        .map(|line| Edit { step: line["step"].as_u64().unwrap_or_default(), changes: texts(&line["changes"]) })
        .collect()
}
