//! What is another between two lives of a run, or two runs, apart from the pipeline.

use serde_json::{Map, Value};

/// How the versions and the device differ: one line each; nothing where `former` says nothing of them.
pub fn differences(former: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(was), Some(is)) = (device(former), device(now)) {
        compare("device", &was, &is, &mut lines);
    }
    if let (Some(was), Some(is)) = (former.get("versions"), now.get("versions")) {
        compare("version", was, is, &mut lines);
    }
    lines
}

/// How the sources and the machine differ.
pub fn surroundings(former: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for (part, keys, what) in [("git", &["commit"][..], "sources"), ("machine", &["processor", "cores"], "machine")] {
        if let (Some(was), Some(is)) = (former.get(part), now.get(part)) {
            keys.iter().for_each(|key| compare(&format!("{key} of the {what}"), &was[key], &is[key], &mut lines));
        }
    }
    lines
}

/// How two tables of names differ.
pub fn tables(name: &str, was: &Value, is: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare(name, was, is, &mut lines);
    lines
}

/// The device, without why it was chosen.
fn device(info: &Map<String, Value>) -> Option<Value> {
    Some(info.get("device")?.as_str()?.split(',').next()?.into())
}

fn compare(name: &str, was: &Value, is: &Value, lines: &mut Vec<String>) {
    match (was, is) {
        (Value::Object(was), Value::Object(is)) => {
            let names = was.keys().chain(is.keys().filter(|name| !was.contains_key(*name)));
            for key in names {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&format!("{name} of {key}"), &of(was), &of(is), lines);
            }
        }
        _ if was == is => {}
        _ => lines.push(format!("{name}: {} → {}", shown(was), shown(is))),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Which datasets of `former`, a `run.json`, have other samples now; those that are in only one of the two are no matter.
pub fn changed_data(former: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let Some(former) = former.get("data").and_then(Value::as_object) else { return Vec::new() };
    let both = former.iter().filter_map(|(node, was)| Some((node, was, now.get(node)?)));
    let changed = both.filter_map(|(node, was, is)| {
        if was["samples"] != is["samples"] {
            return Some(format!("{node} had {} samples and has {}", was["samples"], is["samples"]));
        }
        let differs = |key: &str| was[key].is_string() && is[key].is_string() && was[key] != is[key];
        if differs("fingerprint") {
            return Some(format!("{node} has other content, as many samples"));
        }
        differs("files").then(|| format!("{node} has files of the same names with other content"))
    });
    changed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn versions_plugins_and_the_device_are_compared() {
        let was = map(
            json!({ "device": "cpu, as asked", "versions": { "pipe": "1", "libtorch": "2", "plugins": { "a": "1" } } }),
        );
        let is =
            map(json!({ "device": "cuda:0", "versions": { "pipe": "1", "libtorch": "3", "plugins": { "b": "1" } } }));
        let expected = [
            "device: cpu → cuda:0",
            "version of libtorch: 2 → 3",
            "version of plugins of a: 1 → none",
            "version of plugins of b: none → 1",
        ];
        assert_eq!(differences(&was, &is), expected);
        let chosen = map(json!({ "device": "cpu, because there is no other" }));
        assert!(differences(&was, &chosen).is_empty());
        assert!(differences(&was, &was).is_empty() && differences(&Map::new(), &was).is_empty());
    }

    #[test]
    fn data_are_others_by_number_or_by_content() {
        let data = |samples: u64, fingerprint: Value| {
            map(json!({ "dataset.a": { "samples": samples, "fingerprint": fingerprint } }))
        };
        let former = |samples, fingerprint| map(json!({ "data": data(samples, fingerprint) }));
        let changed = |was: Map<String, Value>, is: Map<String, Value>| changed_data(&was, &is);
        assert_eq!(changed(former(3, json!("x")), data(3, json!("x"))), Vec::<String>::new());
        assert_eq!(changed(former(3, json!("x")), data(4, json!("y"))), ["dataset.a had 3 samples and has 4"]);
        assert_eq!(
            changed(former(3, json!("x")), data(3, json!("y"))),
            ["dataset.a has other content, as many samples"]
        );
        assert_eq!(changed(former(3, json!(null)), data(3, json!("y"))), Vec::<String>::new());
        assert_eq!(changed(former(3, json!("x")), Map::new()), Vec::<String>::new());
        let files = |files: &str| json!({ "dataset.a": { "samples": 3, "fingerprint": "x", "files": files } });
        let before = |files: Value| map(json!({ "data": files }));
        assert_eq!(
            changed(before(files("a")), map(files("b"))),
            ["dataset.a has files of the same names with other content"]
        );
        assert_eq!(changed(before(files("a")), map(files("a"))), Vec::<String>::new());
        assert_eq!(changed(before(files("a")), data(3, json!("x"))), Vec::<String>::new());
        assert_eq!(changed(Map::new(), data(3, json!("x"))), Vec::<String>::new());
    }
}
