//! The reference of components, from their descriptions: lists, pages, Markdown, JSON.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use pipe_vocab::{Descriptor, Kind, Reload};

/// One line per component, by kind.
pub fn list(components: &[&Descriptor]) -> String {
    let mut text = String::new();
    let width = components.iter().map(|d| d.full_name().len()).max().unwrap_or(0);
    for kind in Kind::ALL {
        let of_kind: Vec<_> = components.iter().filter(|d| d.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        for component in of_kind {
            let summary = component.summary().replace('\n', " ");
            let _ = writeln!(text, "{:width$}  {summary}", component.full_name());
        }
    }
    text
}

/// Everything about one component.
pub fn page(component: &Descriptor) -> String {
    let mut text = format!("{}\n\n{}\n", component.full_name(), component.documentation());
    let options = options(component);
    if !options.is_empty() {
        text.push_str("\noptions (type, default; effect of an edit under --watch)\n");
    }
    for option in &options {
        let _ = writeln!(text, "  {} ({})", option.name, option.facts());
        for line in option.about.lines() {
            let _ = writeln!(text, "      {line}");
        }
    }
    if !component.properties.is_empty() {
        text.push_str("\nproperties that other nodes may read\n");
        for property in component.properties {
            let _ = writeln!(text, "  {} ({}): {}", property.name, property.ty.as_str(), property.doc);
        }
    }
    if !component.events.is_empty() {
        text.push_str("\nevents\n");
        for event in component.events {
            let _ = writeln!(text, "  {}: {}", event.name, event.doc);
        }
    }
    let _ = writeln!(text, "\nexample\n{}", indented(component.example.trim()));
    if let Some(plugin) = &component.plugin {
        let library = plugin.library.as_ref().map_or_else(|| "compiled in".into(), |path| path.display().to_string());
        let _ = writeln!(text, "\nplugin {} {}, {library}", plugin.name, plugin.version);
    }
    text
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| if line.is_empty() { String::new() } else { format!("  {line}") })
        .collect::<Vec<_>>()
        .join("\n")
}

/// All components as a single Markdown page.
pub fn markdown(components: &[&Descriptor]) -> String {
    let mut text = String::from(
        "# Components\n\nWritten by `pipe components --format markdown`; `cargo xtask generated` renews it.\n\nThe column \"edit\" says what a \
         changed option means to a run under `--watch`: hot (takes effect at the next iteration, the node keeps its state), rebuild (the \
         node is rebuilt: a model keeps the weights that match, data change at the next epoch), fixed (refused).\n",
    );
    for kind in Kind::ALL {
        let of_kind: Vec<_> = components.iter().filter(|d| d.kind == kind).collect();
        if !of_kind.is_empty() {
            let _ = writeln!(text, "\n## {kind}");
        }
        for component in of_kind {
            markdown_component(&mut text, component);
        }
    }
    text
}

fn markdown_component(text: &mut String, component: &Descriptor) {
    let _ = writeln!(text, "\n### {}\n\n{}\n", component.full_name(), component.documentation());
    let options = options(component);
    if !options.is_empty() {
        text.push_str("| option | type | default | edit | |\n|---|---|---|---|---|\n");
    }
    for option in &options {
        let default = option.default.as_ref().map(|d| format!("`{d}`")).unwrap_or_default();
        let default = if option.required { "required".into() } else { default };
        let about = option.about.replace('\n', " ").replace('|', "\\|");
        let (ty, reload) = (option.ty.replace('|', "\\|"), option.reload);
        let _ = writeln!(text, "| `{}` | {ty} | {default} | {reload} | {about} |", option.name);
    }
    for property in component.properties {
        let _ = writeln!(text, "\nProperty `{}` ({}): {}", property.name, property.ty.as_str(), property.doc);
    }
    let _ = writeln!(text, "\n```toml\n{}\n```", component.example.trim());
    if let Some(plugin) = &component.plugin {
        let _ = writeln!(text, "\nFrom the plugin `{}`.", plugin.name);
    }
}

/// Components for tools.
pub fn json(components: &[&Descriptor]) -> Json {
    components
        .iter()
        .map(|d| {
            let properties: Vec<Json> =
                d.properties.iter().map(|p| json!({ "name": p.name, "type": p.ty.as_str(), "about": p.doc })).collect();
            let reload: serde_json::Map<String, Json> =
                options(d).into_iter().map(|option| (option.name, option.reload.as_str().into())).collect();
            let events: Vec<Json> = d.events.iter().map(|e| json!({ "name": e.name, "about": e.doc })).collect();
            json!({
                "kind": d.kind, "type": d.name, "summary": d.summary(), "documentation": d.documentation(),
                "schema": d.schema(), "reload": reload, "properties": properties, "events": events, "example": d.example.trim(),
                "plugin": d.plugin.as_ref().map(|plugin| &plugin.name),
            })
        })
        .collect()
}

/// One option as people read it.
struct OptionDoc {
    name: String,
    ty: String,
    default: Option<Json>,
    required: bool,
    reload: Reload,
    about: String,
}

impl OptionDoc {
    fn facts(&self) -> String {
        let facts = match (&self.default, self.required) {
            (_, true) => format!("{}, required", self.ty),
            (Some(default), _) if !default.is_null() => format!("{}, default {default}", self.ty),
            _ => self.ty.clone(),
        };
        format!("{facts}; {}", self.reload)
    }
}

fn options(component: &Descriptor) -> Vec<OptionDoc> {
    let schema = component.schema();
    let required: Vec<&str> =
        schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
    let properties = schema.get("properties").and_then(Json::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, option)| OptionDoc {
            name: name.clone(),
            ty: type_text(option),
            default: option.get("default").cloned().filter(|default| !default.is_null()),
            required: required.contains(&name.as_str()),
            reload: Reload::of_option(schema, name),
            about: option.get("description").and_then(Json::as_str).unwrap_or_default().to_owned(),
        })
        .collect()
}

/// A schema's type in a few words.
fn type_text(schema: &Json) -> String {
    if let Some(kinds) = schema.get("x-port").and_then(Json::as_array) {
        let kinds: Vec<&str> = kinds.iter().filter_map(Json::as_str).collect();
        return format!("port: {}", kinds.join(" or "));
    }
    if schema.get("x-target").is_some() {
        return "option of an optimizer".into();
    }
    if schema.get("x-expression").is_some() {
        return "expression".into();
    }
    if schema.get("x-metric").is_some() {
        return "measured value".into();
    }
    if let Some(kind) = schema.get("x-component").and_then(Json::as_str) {
        return format!("{kind} in place");
    }
    if let Some(choices) = schema.get("enum").and_then(Json::as_array) {
        let choices: Vec<String> = choices
            .iter()
            .filter(|c| !c.is_null())
            .map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned))
            .collect();
        return choices.join(" | ");
    }
    if let Some(only) = schema.get("const").and_then(Json::as_str) {
        return only.into();
    }
    if let Some(branches) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
        let mut texts: Vec<String> = branches.iter().map(type_text).filter(|text| text != "null").collect();
        texts.dedup();
        return texts.join(" | ");
    }
    if let Some(name) = schema.pointer("/properties/type/const").and_then(Json::as_str) {
        return format!("{{ type = \"{name}\", … }}");
    }
    let of = |ty: &str| match ty {
        "array" => format!("array of {}", schema.get("items").map_or_else(|| "values".into(), type_text)),
        "object" => "table".into(),
        "string" if schema.get("format").and_then(Json::as_str) == Some("path") => "path".into(),
        other => other.to_owned(),
    };
    match schema.get("type") {
        Some(Json::String(ty)) => of(ty),
        Some(Json::Array(types)) => {
            let types: Vec<String> = types.iter().filter_map(Json::as_str).filter(|ty| *ty != "null").map(of).collect();
            types.join(" | ")
        }
        _ => "value".into(),
    }
}
