//! What the first rank tells the others of a run that begins.

use std::path::PathBuf;

use anyhow::Result;
use pipe_core::Ranks;
use serde::{Deserialize, Serialize};

use crate::options::RunOptions;

/// Where the run begins, as the first rank has decided.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    /// The run's folder; none where nothing is left to do.
    pub folder: Option<PathBuf>,
    /// The checkpoint that it goes on from.
    pub resume: Option<PathBuf>,
    /// Whether the run goes back behind what it had done.
    pub rewinds: bool,
    /// The resolved pipeline.
    pub pipeline: String,
}

impl Told {
    /// What these options come to.
    pub fn of(options: &RunOptions) -> Told {
        let (folder, resume) = (Some(options.folder.clone()), options.resume.clone());
        Told { folder, resume, rewinds: options.rewinds, pipeline: options.pipeline_text.clone() }
    }

    /// That nothing is left to do.
    pub fn nothing() -> Told {
        Told { folder: None, resume: None, rewinds: false, pipeline: String::new() }
    }

    /// Tells it, as the first rank.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn tell(&self, ranks: &Ranks) -> Result<()> {
        ranks.told(|| Ok(serde_json::to_vec(self)?)).map(drop)
    }

    /// Hears it, as another.
    ///
    /// # Errors
    /// When the first is gone.
    pub fn heard(ranks: &Ranks) -> Result<Told> {
        Ok(serde_json::from_slice(&ranks.told(|| Ok(Vec::new()))?)?)
    }
}
