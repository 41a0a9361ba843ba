//! Questions to a JSON schema: which types, choices and alternatives it has.

use serde_json::Value as Json;

use pipe_document::{PathSegment, Value};
use pipe_vocab::{PropertyType, Reload};

pub(super) fn alternatives(schema: &Json) -> Option<&[Json]> {
    let branches = schema.get("anyOf").or_else(|| schema.get("oneOf"))?;
    branches.as_array().map(Vec::as_slice)
}

pub(super) fn is_null(schema: &Json) -> bool {
    schema.get("type").and_then(Json::as_str) == Some("null") || schema.get("const").is_some_and(Json::is_null)
}

/// The JSON types that a schema without alternatives takes; nothing when it does not say.
pub(super) fn types_of(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(ty)) => vec![ty],
        Some(Json::Array(types)) => types.iter().filter_map(Json::as_str).filter(|ty| *ty != "null").collect(),
        _ if schema.get("properties").is_some() || schema.get("x-component").is_some() => vec!["object"],
        _ if !choices_of(schema).is_empty() => vec!["string"],
        _ => Vec::new(),
    }
}

/// The JSON types that a schema takes, its alternatives included.
pub(super) fn types_within(schema: &Json) -> Vec<String> {
    let mut types: Vec<String> = match alternatives(schema) {
        Some(branches) => branches.iter().flat_map(types_within).collect(),
        None => types_of(schema).into_iter().map(str::to_owned).collect(),
    };
    let mut seen = Vec::new();
    types.retain(|ty| ty != "null" && !seen.contains(ty) && (seen.push(ty.clone()), true).1);
    types
}

/// The texts that a schema allows, when it lists them.
pub(super) fn choices_of(schema: &Json) -> Vec<&str> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(Json::String(only)), _) => vec![only],
        (_, Some(Json::Array(all))) => all.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The key by which alternatives tell themselves apart.
pub(super) fn tag_of(branches: &[&Json]) -> Option<&'static str> {
    let tagged = |branch: &&Json| branch.pointer("/properties/type/const").is_some();
    let tables = branches.iter().filter(|b| types_of(b).contains(&"object")).collect::<Vec<_>>();
    (!tables.is_empty() && tables.iter().all(|b| tagged(b))).then_some("type")
}

pub(super) fn accepts(value: &Value, schema: &Json) -> bool {
    let types = types_within(schema);
    types.is_empty() || types.iter().any(|ty| fits(value, ty))
}

pub(super) fn fits(value: &Value, ty: &str) -> bool {
    match ty {
        "string" => matches!(value, Value::String(_) | Value::Datetime(_)),
        "integer" => matches!(value, Value::Integer(_)),
        "number" => matches!(value, Value::Integer(_) | Value::Float(_)),
        "boolean" => matches!(value, Value::Boolean(_)),
        "array" => matches!(value, Value::Array(_)),
        "object" => matches!(value, Value::Table(_)),
        _ => false,
    }
}

/// Whether a property of type `ty` may stand where the JSON type `wanted` is wanted.
pub(super) fn property_fits(ty: PropertyType, wanted: &str) -> bool {
    match ty {
        PropertyType::Integer => matches!(wanted, "integer" | "number"),
        PropertyType::Number => wanted == "number",
        PropertyType::String => wanted == "string",
        PropertyType::Strings => wanted == "array",
    }
}

/// Whether a number lies in the range that a schema gives.
pub(super) fn in_range(value: f64, schema: &Json) -> bool {
    let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
    let below = bound("minimum").is_some_and(|min| value < min);
    let at_or_below = bound("exclusiveMinimum").is_some_and(|min| value <= min);
    let above = bound("maximum").is_some_and(|max| value > max);
    let at_or_above = bound("exclusiveMaximum").is_some_and(|max| value >= max);
    !(below || at_or_below || above || at_or_above || value.is_nan())
}

/// The names of a component's numbers that may change while it works: `lr`, of lists of fixed length `betas[0]`, of tables in a
/// list `groups[0].lr`, of the last those keys that are also keys of the component itself. Of a component that marks those that can
/// be scheduled, these, as far as they are set: of tables `loss_weights.mask`.
pub(super) fn hot_numbers(schema: &Json, config: &Json) -> Vec<String> {
    let Some(options) = schema.get("properties").and_then(Json::as_object) else { return Vec::new() };
    if options.values().any(|option| option.get("x-scheduled").is_some()) {
        let marked = options.iter().filter(|(_, option)| option.get("x-scheduled").is_some());
        let names = marked.flat_map(|(name, option)| match config.get(name).or_else(|| option.get("default")) {
            None | Some(Json::Null) => Vec::new(),
            Some(Json::Object(table)) => table.keys().map(|key| format!("{name}.{key}")).collect(),
            Some(_) => vec![name.clone()],
        });
        return names.collect();
    }
    let number = |schema: &Json| types_within(schema).iter().any(|ty| ty == "number");
    let mut names = Vec::new();
    for (name, option) in options.iter().filter(|(name, _)| Reload::of_option(schema, name) == Reload::Hot) {
        let items = option.get("items");
        let length = option.get("maxItems").and_then(Json::as_u64).unwrap_or(0) as usize;
        if number(option) {
            names.push(name.clone());
        } else if items.is_some_and(|items| number(items) || items.as_array().is_some_and(|all| all.iter().all(number)))
        {
            names.extend((0..length).map(|index| format!("{name}[{index}]")));
        } else if let Some(keys) = items.and_then(|items| items.get("properties")).and_then(Json::as_object) {
            let tables = config.get(name).and_then(Json::as_array).map_or(0, Vec::len);
            let shared = keys.iter().filter(|(key, schema)| options.contains_key(*key) && number(schema));
            let shared: Vec<&String> = shared.map(|(key, _)| key).collect();
            names.extend((0..tables).flat_map(|i| shared.iter().map(move |key| format!("{name}[{i}].{key}"))));
        }
    }
    names
}

/// What is wrong with a value that stands at the end of these steps under `schema`, in words: a value that became known after
/// the plan was checked, under the ranges that hold in the file.
pub fn value_problem(schema: &Json, path: &[PathSegment], value: &Json) -> Option<String> {
    let resolve = |at: &'_ Json| -> Option<Json> {
        let target = at.get("$ref").and_then(Json::as_str).and_then(|text| text.strip_prefix('#'));
        target.and_then(|pointer| schema.pointer(pointer)).cloned()
    };
    let mut open = vec![schema.clone()];
    for segment in path {
        let mut next = Vec::new();
        for at in open {
            let at = resolve(&at).unwrap_or(at);
            let branches = alternatives(&at).map(<[Json]>::to_vec).unwrap_or_default();
            for at in branches.into_iter().chain([at]) {
                let at = resolve(&at).unwrap_or(at);
                let inner = match segment {
                    PathSegment::Key(key) => at.get("properties").and_then(|all| all.get(key)),
                    PathSegment::Index(index) => match at.get("prefixItems").or_else(|| at.get("items")) {
                        Some(Json::Array(places)) => places.get(*index),
                        other => other,
                    },
                };
                next.extend(inner.cloned());
            }
        }
        open = next;
    }
    let number = value.as_f64()?;
    let leaves = open.iter().flat_map(|at| match alternatives(at) {
        Some(branches) => branches.iter().filter(|branch| !is_null(branch)).cloned().collect(),
        None => vec![at.clone()],
    });
    let numeric = |at: &Json| types_of(at).iter().any(|ty| matches!(*ty, "integer" | "number"));
    let ranges: Vec<Json> = leaves.filter(numeric).collect();
    let fits = ranges.is_empty() || ranges.iter().any(|at| in_range(number, at));
    (!fits).then(|| format!("it must be {}", super::message::range(&ranges[0])))
}
