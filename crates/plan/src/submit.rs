//! `[submit.NAME]`: where runs of the pipeline are submitted to, and what their jobs ask for.

use std::sync::OnceLock;

use indexmap::IndexMap;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Sources, suggest};
use pipe_document::{Document, Entry, PathSegment, Table};
use pipe_submit::Profile;
use pipe_submit::profile::{KubernetesConfig, LocalConfig, SlurmConfig};
use pipe_vocab::{Catalog, schema_of};
use serde_json::{Value as Json, json};

use super::file::File;
use super::lower::Lowering;
use super::message;

/// Who works on jobs: the name that `type` has, or that a profile without one has itself.
const ENGINES: [&str; 3] = ["slurm", "kubernetes", "local"];

fn schema_for(engine: &str) -> Option<&'static Json> {
    static SCHEMAS: OnceLock<[Json; 3]> = OnceLock::new();
    let all = || [schema_of::<SlurmConfig>(), schema_of::<KubernetesConfig>(), schema_of::<LocalConfig>()];
    let place = ENGINES.iter().position(|name| *name == engine)?;
    Some(&SCHEMAS.get_or_init(all)[place])
}

/// The section's JSON schema.
pub fn schema() -> Json {
    let engines = ENGINES.iter().filter_map(|engine| {
        let mut schema = schema_for(engine)?.clone();
        schema["properties"]["type"] =
            json!({ "enum": [engine], "description": "Who works on the job; default the profile's name." });
        Some(schema)
    });
    let any: Vec<Json> = engines.collect();
    json!({
        "type": "object",
        "description": "Where `pipe submit --to NAME` submits runs of the pipeline to, and what their jobs ask for.",
        "additionalProperties": { "anyOf": any },
    })
}

/// A profile of that name without a word in the file.
///
/// # Errors
/// When it needs words.
pub fn plain(name: &str) -> Result<Profile, String> {
    match name {
        "slurm" => Ok(Profile::Slurm(SlurmConfig::default())),
        "local" => Ok(Profile::Local(LocalConfig::default())),
        "kubernetes" => Err("a job of Kubernetes needs an image: write [submit.kubernetes] with `image`".into()),
        other => Err(format!("there is no [submit.{other}] in the file, and it is none of {}", ENGINES.join(", "))),
    }
}

/// The profiles of a document, whatever else is in it: a file may have nothing but them. And what is wrong with them.
pub fn profiles(document: &Document, sources: &Sources, catalog: &Catalog) -> (IndexMap<String, Profile>, Diagnostics) {
    let mut found = Diagnostics::new();
    let profiles = read(File { document, sources, catalog }, &mut found);
    (profiles, found)
}

/// Reads the section; without those profiles that are wrong.
pub(crate) fn read(file: File<'_>, found: &mut Diagnostics) -> IndexMap<String, Profile> {
    let mut profiles = IndexMap::new();
    let Some(entry) = file.document.submit() else { return profiles };
    let Some(table) = entry.node.as_table() else {
        let message = format!("`submit` must be a table, found {}", message::found(&entry.node.value));
        found.push(
            Diagnostic::error("wrong-type", message).at(entry.node.location.clone()).help("write `[submit.NAME]`"),
        );
        return profiles;
    };
    for (name, entry) in table.iter() {
        let Some(inner) = entry.node.as_table() else {
            let message = format!("`submit.{name}` must be a table, found {}", message::found(&entry.node.value));
            let problem = Diagnostic::error("wrong-type", message).at(entry.node.location.clone());
            found.push(problem.help("write `[submit.NAME]`, with `type` and what jobs ask for"));
            continue;
        };
        if let Some(profile) = profile(file, name, entry, inner, found) {
            profiles.insert(name.to_owned(), profile);
        }
    }
    profiles
}

fn profile(file: File<'_>, name: &str, entry: &Entry, table: &Table, found: &mut Diagnostics) -> Option<Profile> {
    let given = table.entry("type");
    let (engine, at) = match given {
        Some(given) => (given.node.as_str().unwrap_or_default(), &given.node.location),
        None => (name, &entry.key),
    };
    let Some(schema) = schema_for(engine) else {
        let message = match given {
            Some(_) => format!("`{engine}` works on no jobs"),
            None => format!("`submit.{name}` needs `type`"),
        };
        let near = suggest(engine, ENGINES).filter(|_| given.is_some());
        let help = near.map_or(format!("write {}", ENGINES.join(", ")), |near| format!("did you mean `{near}`?"));
        found.push(Diagnostic::error("unknown-component", message).at(at.clone()).help(help));
        return None;
    };
    let base = vec![PathSegment::from("submit"), PathSegment::from(name)];
    let mut lowering = Lowering::new(file.document, file.sources, file.catalog, schema, base);
    let json = lowering.table(table, &entry.node.location, &["type"], &format!("`[submit.{name}]`"));
    let wrong = lowering.diagnostics.has_errors();
    found.extend(lowering.diagnostics);
    if wrong {
        return None;
    }
    let read = match engine {
        "slurm" => serde_json::from_value(json).map(Profile::Slurm).map_err(|error| error.to_string()),
        "kubernetes" => serde_json::from_value(json)
            .map_err(|error| error.to_string())
            .and_then(|config: KubernetesConfig| config.check().map(|()| Profile::Kubernetes(config))),
        _ => serde_json::from_value(json).map(Profile::Local).map_err(|error| error.to_string()),
    };
    match read {
        Ok(profile) => Some(profile),
        Err(error) => {
            found.push(Diagnostic::error("invalid-option", error).at(entry.node.location.clone()));
            None
        }
    }
}
