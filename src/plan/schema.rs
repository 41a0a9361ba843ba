//! Questions to a JSON schema: which types, choices and alternatives it has.

use serde_json::Value as Json;

use crate::document::Value;
use crate::registry::PropertyType;

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
