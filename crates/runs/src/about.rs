//! What the owners of a run say of it, in `about.json` of its folder, so that all who share the folder share it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pipe_vocab::{atomic, files};
use serde::{Deserialize, Serialize};

/// The file's name.
pub const FILE: &str = "about.json";

/// The tag of runs that a table leaves out unless it is asked for them.
pub const ARCHIVED: &str = "archived";

/// What is said of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// What it is called.
    pub name: Option<String>,
    /// Words that it is found by.
    pub tags: BTreeSet<String>,
    /// What runs it belongs to: those of one experiment with several seeds, say.
    pub group: Option<String>,
    /// Anything else.
    pub note: String,
}

impl About {
    /// What is said of the run in a folder; nothing where nobody has said anything.
    pub fn of(run: &Path) -> About {
        let text = files::read_text(&run.join(FILE), 1 << 20).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Changes what is said. Of two that do so at once none is lost.
    ///
    /// # Errors
    /// When the folder cannot be written, or what is there is not what this program writes.
    pub fn edit(run: &Path, change: impl FnOnce(&mut About) -> Result<()>) -> Result<About> {
        let path = run.join(FILE);
        // Held until the end; a file system without locks goes without.
        let lock = File::open(run).with_context(|| format!("cannot open {}", run.display()))?;
        let _held = lock.lock();
        let mut about = match files::read_text(&path, 1 << 20) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?,
            Err(_) => About::default(),
        };
        let before = about.clone();
        change(&mut about)?;
        if about != before {
            atomic::write(&path, (serde_json::to_string_pretty(&about)? + "\n").as_bytes())?;
        }
        Ok(about)
    }
}

/// Checks a name or a tag: one that can be given on a command line and shown in a table.
///
/// # Errors
/// When it cannot.
pub fn check_word(what: &str, word: &str) -> Result<()> {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"\"'()/,".contains(c);
    let good = !word.is_empty() && word.chars().count() <= 100 && word.chars().all(plain);
    ensure!(
        good && !word.starts_with(['-', '+', '.']) && word != "latest",
        "{word:?} cannot be a {what}: write up to 100 characters without spaces, quotes, parentheses, commas and slashes, \
         not `latest`, and none of - + . at the beginning"
    );
    Ok(())
}
