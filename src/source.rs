//! What all commands on a pipeline file share: the file, the profile, the overrides, and the diagnostics.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::output::{Format, print};
use pipe_core::terminal;
use pipe_document::PathSegment;
use pipe_document::diagnostic::Diagnostics;
use pipe_plan::Plan;
use pipe_run::load::{Loaded, PipelineSource};
use pipe_run::submitted::Submitted;
use pipe_run::versions::Versions;
use pipe_submit::job::{KEPT, OWN};
use pipe_vocab::{files, shown::shown_name};

/// The pipeline and its overrides.
#[derive(Debug, Clone, Args)]
pub struct PipelineArgs {
    /// The pipeline file, or the folder of a run for the latest version of its pipeline. Libraries under its `[plugins]` are
    /// opened, which runs their code: look at a file of someone else's before.
    pub file: PathBuf,
    /// Apply `[profile.NAME]`.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Set a value: `--set engine.trainer.max_epochs=3`. Can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Let a refusal pass, by its code. May be given several times.
    #[arg(long, value_name = "CODE", value_parser = codes())]
    pub accept: Vec<String>,
    /// The folder that relative paths start from, of a version of a run's pipeline that is not the latest.
    #[arg(skip)]
    pub base: Option<PathBuf>,
}

/// The codes of refusals.
pub fn codes() -> clap::builder::PossibleValuesParser {
    let codes = pipe_vocab::refusal::CODES.iter();
    codes.map(|code| clap::builder::PossibleValue::new(code.name).help(code.about)).collect::<Vec<_>>().into()
}

impl PipelineArgs {
    /// What the pipeline is read from.
    pub fn source(&self) -> PipelineSource {
        if let Some(submitted) = self.submitted() {
            return submitted.source(self.profile.as_ref(), &self.sets, &self.accept);
        }
        let kept = self.file.is_dir().then(|| Versions::of(&self.file)).and_then(|versions| {
            let (name, _) = versions.newest()?;
            Some((versions.folder().join(name), pipeline_folder(&self.file)))
        });
        let (file, base) = kept.unwrap_or((self.file.clone(), self.base.clone()));
        PipelineSource {
            file,
            profile: self.profile.clone(),
            sets: self.sets.clone(),
            base,
            accept: self.accept.clone(),
            texts: None,
        }
    }

    /// Reads and checks the pipeline.
    pub fn load(&self) -> Loaded {
        let source = self.source();
        let loaded = source.load();
        if self.file.is_dir() || source.base.is_some() { loaded.refusing_missing_secrets() } else { loaded }
    }

    /// What was submitted: of a job's file, or of the folder of a run that waits in a queue.
    fn submitted(&self) -> Option<Submitted> {
        let begun = || Versions::of(&self.file).newest().is_some();
        match self.file.is_dir() {
            true if begun() => None,
            true => Submitted::read(&self.file.join(OWN).join(KEPT)),
            false => Submitted::read(&self.file),
        }
    }

    /// The name of a pipeline without `name`.
    pub fn stem(&self) -> String {
        if let Some(submitted) = self.submitted() {
            return submitted.name;
        }
        self.file.file_stem().map_or_else(|| "pipeline".into(), |stem| stem.to_string_lossy().into_owned())
    }
}

/// What the paths in a run's pipeline are relative to.
pub fn pipeline_folder(run: &Path) -> Option<PathBuf> {
    let info = files::read_text(&run.join("run.json"), 16 << 20).ok()?;
    let info: serde_json::Value = serde_json::from_str(&info).ok()?;
    info.get("pipeline_folder")?.as_str().map(PathBuf::from)
}

/// Reports diagnostics: text on standard error, JSON on standard output.
///
/// # Errors
/// When standard output is closed.
pub fn tell(loaded: &Loaded, format: Format) -> Result<()> {
    tell_of(&loaded.diagnostics, loaded, format)
}

/// As [`tell`], of findings that came later.
///
/// # Errors
/// When standard output is closed.
pub fn tell_of(found: &Diagnostics, loaded: &Loaded, format: Format) -> Result<()> {
    match format {
        Format::Text => {
            let text = found.render_text(&loaded.sources, terminal::colors());
            if let Some(text) = text.strip_suffix('\n') {
                terminal::styled_line(text);
            }
        }
        Format::Json => {
            let text = serde_json::to_string_pretty(&found.render_json(&loaded.sources))?;
            print(&(text + "\n"))?;
        }
    }
    Ok(())
}

/// The plan, or `None` after logging each diagnostic.
pub fn plan_or_log(loaded: &Loaded) -> Option<&Plan> {
    log(&loaded.diagnostics, loaded);
    loaded.plan.as_ref()
}

/// Logs each diagnostic.
pub fn log(found: &Diagnostics, loaded: &Loaded) {
    for finding in found.render_json(&loaded.sources).as_array().into_iter().flatten() {
        let text = finding["message"].as_str().unwrap_or_default();
        let place =
            format!("{}:{}:{}", finding["file"].as_str().unwrap_or_default(), finding["line"], finding["column"]);
        let (code, help) = (finding["code"].as_str(), finding["help"].as_str());
        match finding["severity"].as_str() {
            Some("error") => tracing::error!(code, place, help, "{text}"),
            _ => tracing::warn!(code, place, help, "{text}"),
        }
    }
}

/// Arguments of the command line, without the values of secret keys in `KEY=VALUE`.
pub fn without_secrets(loaded: &Loaded, arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let masked = |argument: String| {
        let (option, set) = if argument.starts_with("--set=") { argument.split_at(6) } else { ("", &*argument) };
        let (key, _) = set.split_once('=')?;
        let steps = key.split('.').map(|step| PathSegment::from(step.trim().trim_matches(['"', '\''])));
        let pointer: Vec<PathSegment> = steps.collect();
        let secret = loaded.document.as_ref().is_some_and(|document| document.holds_secret(&pointer));
        secret.then(|| format!("{option}{key}=<secret>"))
    };
    arguments.into_iter().map(|argument| masked(argument.clone()).unwrap_or(argument)).collect()
}

/// The plan, or `None` after reporting what is wrong.
///
/// # Errors
/// When standard output is closed.
pub fn plan_or_tell(loaded: &Loaded) -> Result<Option<&Plan>> {
    tell(loaded, Format::Text)?;
    Ok(loaded.plan.as_ref())
}

/// The folder of all runs: `PIPE_RUNS`, or `runs` in the working directory.
pub fn runs_folder() -> PathBuf {
    std::env::var_os("PIPE_RUNS").map_or_else(|| PathBuf::from("runs"), PathBuf::from)
}

/// A path for display: relative if it is below the working directory.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    shown_name(&path.strip_prefix(&here).unwrap_or(path).display().to_string()).into_owned()
}
