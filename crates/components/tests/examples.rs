//! The examples of components are what the components themselves read.

use pipe_components as _;
use pipe_core::{Kind, Problems, builtin};

/// The examples of optimizers, schedulers and metrics are TOML whose own node the component itself reads.
#[test]
fn examples_are_read_by_their_components() {
    let kinds = [Kind::Optimizer, Kind::Scheduler, Kind::Metric];
    for descriptor in kinds.into_iter().flat_map(|kind| builtin().of_kind(kind)) {
        let name = descriptor.full_name();
        let example: toml::Table = toml::from_str(descriptor.example).unwrap_or_else(|e| panic!("{name}: {e}"));
        let nodes = example[descriptor.kind.as_str()].as_table().unwrap();
        let own = nodes.values().find(|node| node["type"].as_str() == Some(descriptor.name));
        let mut own = own.unwrap_or_else(|| panic!("{name} is not in its example")).as_table().unwrap().clone();
        own.remove("type");
        let component = descriptor.parse(serde_json::to_value(own).unwrap());
        let component = component.unwrap_or_else(|e| panic!("{name}: {}: {}", e.path.join("."), e.message));
        let mut problems = Problems::default();
        component.check(&mut problems);
        assert!(problems.found.is_empty(), "{name}: {:?}", problems.found);
        assert!(!descriptor.summary().is_empty(), "{name} has no summary");
        for (option, schema) in descriptor.schema()["properties"].as_object().into_iter().flatten() {
            assert!(schema.get("description").is_some(), "{name}: `{option}` is not documented");
        }
    }
}
