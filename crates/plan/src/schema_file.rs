//! The JSON schema of pipeline files, for editors: every component's schema under its kind, told apart by `type`.

use serde_json::{Map, Value as Json, json};

use crate::checks::section;
use crate::{events, pipeline, plugins, submit, sweep};
use pipe_vocab::{Catalog, Kind};

/// The whole schema, draft 07.
pub fn pipeline_schema(catalog: &Catalog) -> Json {
    let mut properties = Map::new();
    properties
        .insert("extends".into(), json!({ "type": "string", "description": "One parent file, relative to this one." }));
    let unset = "Keys of the parent that this file takes away, such as `model.net.weights` or, of a named event edge, `on.NAME`.";
    let keys = json!({ "type": "array", "items": { "type": "string" }, "description": unset });
    properties.insert("unset".into(), keys.clone());
    properties.insert("pipeline".into(), relaxed(pipeline::schema()));
    properties.insert("vars".into(), json!({ "type": "object", "description": "Variables, used as ${name}." }));
    let mut definitions = Map::new();
    for kind in Kind::ALL {
        let components: Vec<Json> = catalog.of_kind(kind).map(|d| with_type(d.schema(), d.name)).collect();
        let untyped = json!({ "type": "object", "not": { "required": ["type"] } });
        let node = json!({ "oneOf": components.into_iter().chain([untyped]).collect::<Vec<_>>() });
        definitions.insert(kind.as_str().into(), node);
        let reference = json!({ "$ref": format!("#/definitions/{kind}") });
        properties.insert(kind.as_str().into(), json!({ "type": "object", "additionalProperties": reference }));
    }
    properties.insert("on".into(), json!({ "type": "array", "items": edge() }));
    properties.insert("plugins".into(), relaxed(plugins::schema()));
    properties.insert("checks".into(), relaxed(section::schema()));
    properties.insert("sweep".into(), relaxed(sweep::schema()));
    properties.insert("submit".into(), submit::schema());
    let profile = "Overrides applied by `--profile NAME`, key by key.";
    properties.insert(
        "profile".into(),
        json!({ "type": "object", "description": profile,
                "additionalProperties": { "type": "object", "properties": { "unset": keys } } }),
    );
    let typed = |kind: Kind| (kind.as_str().to_owned(), json!({ "additionalProperties": { "required": ["type"] } }));
    let typed: Map<String, Json> = Kind::ALL.into_iter().map(typed).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "pipe pipeline",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        // A file that extends another may leave out what its parent says.
        "if": { "required": ["extends"] },
        "else": { "properties": typed },
        "definitions": definitions,
    })
}

/// An event edge: a whole one, or what is changed of a named one.
fn edge() -> Json {
    let mut edge = relaxed(events::schema());
    if let Some(required) = edge.as_object_mut().and_then(|edge| edge.remove("required")) {
        edge["anyOf"] = json!([{ "required": required }, { "required": ["name"] }]);
    }
    edge
}

/// A component's schema with its `type`. Editors see files before variables are put in, so every value may also be a text
/// with `${…}`, and a number may be the name of another node's property.
fn with_type(schema: &Json, name: &str) -> Json {
    let mut schema = relaxed(schema);
    if let Some(object) = schema.as_object_mut() {
        object.remove("title");
        let mut properties = Map::new();
        properties.insert("type".into(), json!({ "const": name }));
        if let Some(Json::Object(rest)) = object.remove("properties") {
            properties.extend(rest);
        }
        object.insert("properties".into(), Json::Object(properties));
        let mut required = vec![Json::from("type")];
        if let Some(Json::Array(rest)) = object.remove("required") {
            required.extend(rest);
        }
        object.insert("required".into(), Json::Array(required));
    }
    schema
}

/// The schema with every property also open to a text that will be replaced, and with our own marks resolved.
fn relaxed(schema: &Json) -> Json {
    let Json::Object(object) = schema else { return schema.clone() };
    if let Some(kind) = object.get("x-component").and_then(Json::as_str) {
        return json!({ "allOf": [{ "$ref": format!("#/definitions/{kind}") }, { "required": ["type"] }] });
    }
    let mut open_to_text = Map::new();
    for (key, value) in object {
        if key.starts_with("x-") {
            continue;
        }
        let value = match (key.as_str(), value) {
            ("properties", Json::Object(properties)) => {
                Json::Object(properties.iter().map(|(name, inner)| (name.clone(), open(name, inner))).collect())
            }
            ("items" | "additionalProperties", inner @ Json::Object(_)) => open("", inner),
            ("anyOf" | "oneOf" | "allOf", Json::Array(branches)) => {
                let branches = branches.iter().map(relaxed).collect();
                // A relaxed value may fit several branches.
                open_to_text.insert(if key == "oneOf" { "anyOf".into() } else { key.clone() }, branches);
                continue;
            }
            _ => value.clone(),
        };
        open_to_text.insert(key.clone(), value);
    }
    Json::Object(open_to_text)
}

fn open(name: &str, schema: &Json) -> Json {
    let inner = relaxed(schema);
    let takes_text = inner.get("type").and_then(Json::as_str) == Some("string") && inner.get("pattern").is_none();
    if name == "type" || takes_text && inner.get("enum").is_none() || schema.get("x-component").is_some() {
        return inner;
    }
    let mut about = Map::new();
    for key in ["description", "default"] {
        if let Some(value) = inner.get(key) {
            about.insert(key.into(), value.clone());
        }
    }
    let mut forms = vec![inner, json!({ "type": "string", "pattern": r"\$\{|^[a-z]+\.[A-Za-z0-9_-]+:" })];
    forms.extend(schema.get("x-word").map(|word| json!({ "const": word })));
    about.insert("anyOf".into(), Json::Array(forms));
    Json::Object(about)
}
