//! What a run is called, from its beginning or later.

use std::path::Path;

use anyhow::{Result, ensure};
use pipe_runs::About;
use pipe_runs::about::check_word;

use crate::source::runs_folder;

/// A name and a group for a run, checked.
pub struct Called {
    name: Option<String>,
    group: Option<String>,
}

impl Called {
    /// For the run in this folder, which need not be there yet.
    ///
    /// # Errors
    /// When they are no words, or another run has the name.
    pub fn new(folder: &Path, name: Option<String>, group: Option<String>) -> Result<Called> {
        group.as_deref().map_or(Ok(()), |group| check_word("group", group))?;
        if let Some(name) = &name {
            check_word("name", name)?;
            let own = std::path::absolute(folder)?;
            let roots: Vec<_> = Some(runs_folder()).into_iter().filter(|root| root.is_dir()).collect();
            for other in pipe_runs::look(&roots)?.into_iter().filter(|other| other.name == *name) {
                let same = std::path::absolute(&other.folder).is_ok_and(|other| other == own);
                ensure!(same, "{} is called `{name}` already", other.folder.display());
            }
        }
        Ok(Called { name, group })
    }

    /// Writes them into the run's folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(self, folder: &Path) -> Result<()> {
        if self.name.is_some() || self.group.is_some() {
            About::edit(folder, |about| {
                about.name = self.name.or(about.name.take());
                about.group = self.group.or(about.group.take());
                Ok(())
            })?;
        }
        Ok(())
    }
}
