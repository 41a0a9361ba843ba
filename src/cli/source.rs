//! What all commands on a pipeline file share: the file, the profile, the overrides, and the diagnostics.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::Format;
use crate::diagnostic::{Diagnostics, Sources};
use crate::document::{Document, LoadOptions};
use crate::plan::Plan;
use crate::registry::plugins;

/// The pipeline and what is changed in it.
#[derive(Debug, Clone, Args)]
pub struct PipelineArgs {
    /// The pipeline file.
    pub file: PathBuf,
    /// Apply `[profile.NAME]`.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Set a value: `--set engine.trainer.max_epochs=3`. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// A pipeline as far as it could be read.
pub struct Loaded {
    /// The texts that were read.
    pub sources: Sources,
    /// The resolved document.
    pub document: Option<Document>,
    /// The plan, where there are no errors.
    pub plan: Option<Plan>,
    /// What was found.
    pub diagnostics: Diagnostics,
    /// Time taken for reading and checking.
    pub elapsed: Duration,
}

impl PipelineArgs {
    /// Reads and checks the pipeline.
    pub fn load(&self) -> Loaded {
        let start = Instant::now();
        let mut sources = Sources::new(std::env::current_dir().unwrap_or_default());
        let options = LoadOptions { profile: self.profile.clone(), sets: self.sets.clone(), ..LoadOptions::default() };
        let (mut document, mut diagnostics) = Document::load(&self.file, &options, &mut sources);
        let mut plan = None;
        if let Some(document) = &mut document {
            diagnostics.merge(plugins::load_from(document, &sources));
            let (checked, found) = Plan::of(document, &sources);
            diagnostics.merge(found);
            plan = checked.filter(|_| !diagnostics.has_errors());
            for secret in plan.iter().flat_map(|plan| &plan.secrets) {
                document.redact(secret);
            }
        }
        Loaded { sources, document, plan, diagnostics, elapsed: start.elapsed() }
    }

    /// The pipeline's name when it does not say one.
    pub fn stem(&self) -> String {
        self.file.file_stem().map_or_else(|| "pipeline".into(), |stem| stem.to_string_lossy().into_owned())
    }
}

impl Loaded {
    /// Tells what was found: text on standard error, JSON on standard output.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn tell(&self, format: Format) -> Result<()> {
        match format {
            Format::Text => {
                let color = std::io::stderr().is_terminal();
                eprint!("{}", self.diagnostics.render_text(&self.sources, color));
            }
            Format::Json => {
                let text = serde_json::to_string_pretty(&self.diagnostics.render_json(&self.sources))?;
                super::print(&(text + "\n"))?;
            }
        }
        Ok(())
    }

    /// The plan, or `None` after telling what is wrong.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn plan_or_tell(&self) -> Result<Option<&Plan>> {
        self.tell(Format::Text)?;
        Ok(self.plan.as_ref())
    }
}

/// The folder under which runs lie: `PIPE_RUNS`, or `runs` where the command was given.
pub fn runs_folder() -> PathBuf {
    std::env::var_os("PIPE_RUNS").map_or_else(|| PathBuf::from("runs"), PathBuf::from)
}

/// A path as people like to read it: relative where it lies below the working directory.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
