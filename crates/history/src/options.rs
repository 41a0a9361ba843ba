//! A pipeline key by key, and where each value came from.

use std::collections::BTreeMap;
use std::path::Path;

use pipe_vocab::files;
use serde_json::Value;

/// The options of a run's latest pipeline: `optimizer.sgd.lr`, `on[0].event`; arrays of anything but tables are one value.
pub fn of(run: &Path) -> BTreeMap<String, Value> {
    let mut options = BTreeMap::new();
    let text = files::read_text(&run.join("pipeline.toml"), 16 << 20).unwrap_or_default();
    if let Ok(table) = toml::from_str::<toml::Table>(&text)
        && let Ok(Value::Object(table)) = serde_json::to_value(table)
    {
        for (key, value) in table {
            flatten(key_text(&key), value, &mut options);
        }
    }
    options
}

fn flatten(key: String, value: Value, into: &mut BTreeMap<String, Value>) {
    let tables = |items: &[Value]| !items.is_empty() && items.iter().all(Value::is_object);
    match value {
        Value::Object(table) if !table.is_empty() => {
            table.into_iter().for_each(|(name, value)| flatten(format!("{key}.{}", key_text(&name)), value, into));
        }
        Value::Array(items) if tables(&items) => {
            items.into_iter().enumerate().for_each(|(at, value)| flatten(format!("{key}[{at}]"), value, into));
        }
        value => {
            into.insert(key, value);
        }
    }
}

/// A key as TOML writes it.
fn key_text(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { format!("{key:?}") }
}

/// Where the options of a run came from, as far as it was kept: `p.toml:12, profile demo`.
pub fn origins(run: &Path) -> BTreeMap<String, String> {
    let text = files::read_text(&run.join("pipelines/origins.json"), 16 << 20).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
