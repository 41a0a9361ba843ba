//! A pipeline as it was submitted: the texts of its files and what the command line said, in one file of the job's folder. A job reads that,
//! so an edit made while it waits in a queue changes nothing. Relative paths mean what they do in the pipeline's own file; variables of the
//! environment are read by the job.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipe_document::Document;
use pipe_vocab::files;
use serde::{Deserialize, Serialize};

use crate::load::{Loaded, PipelineSource};

/// A file is no longer, in bytes.
const LONGEST: u64 = 128 << 20;

/// A pipeline as it was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submitted {
    /// What its runs are called that have no other name.
    pub name: String,
    file: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(default)]
    sets: Vec<String>,
    #[serde(default)]
    accept: Vec<String>,
    /// The text of each file, by the path that it was read from.
    files: BTreeMap<PathBuf, String>,
}

impl Submitted {
    /// What was loaded from a source.
    ///
    /// # Errors
    /// When a secret stands in it as it is: the job's folder would keep that.
    pub fn of(source: &PipelineSource, loaded: &Loaded, name: &str) -> Result<Submitted, String> {
        let read = loaded.snapshot.files.iter();
        let files: BTreeMap<PathBuf, String> =
            read.filter_map(|(path, text)| Some((path.clone(), text.clone().ok()?))).collect();
        for (_, secret) in loaded.document.iter().flat_map(Document::secrets) {
            let quoted = [format!("\"{secret}\""), format!("'{secret}'")];
            let stands = |text: &str| !secret.is_empty() && quoted.iter().any(|quoted| text.contains(quoted));
            let set = |set: &String| !secret.is_empty() && set.ends_with(&format!("={secret}")) || stands(set);
            let place = files.iter().find(|(_, text)| stands(text)).map(|(path, _)| path.display().to_string());
            if let Some(place) = place.or_else(|| source.sets.iter().any(set).then(|| "--set".into())) {
                return Err(format!(
                    "a secret stands in {place} as it is, and the job's folder would keep it: write '${{env:NAME}}'"
                ));
            }
        }
        let PipelineSource { file, base, profile, sets, accept, .. } = source.clone();
        Ok(Submitted { name: name.to_owned(), file, base, profile, sets, accept, files })
    }

    /// That in a file; nothing where it is none.
    pub fn read(file: &Path) -> Option<Submitted> {
        // A pipeline's own file is TOML.
        let json = file.extension().is_some_and(|ending| ending == "json");
        serde_json::from_str(&json.then(|| files::read_text(file, LONGEST).ok())??).ok()
    }

    /// The file's text.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// What the pipeline is read from, with another profile and further values.
    #[must_use]
    pub fn source(self, profile: Option<&String>, sets: &[String], accept: &[String]) -> PipelineSource {
        let key = |set: &String| set.split_once('=').map(|(key, _)| key.trim().to_owned());
        let former = self.sets.into_iter().filter(|set| !sets.iter().any(|other| key(other) == key(set)));
        PipelineSource {
            file: self.file,
            profile: profile.cloned().or(self.profile),
            sets: former.chain(sets.iter().cloned()).collect(),
            base: self.base,
            accept: [self.accept, accept.to_vec()].concat(),
            texts: Some(Arc::new(self.files)),
        }
    }
}
