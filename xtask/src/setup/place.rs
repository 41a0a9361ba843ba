//! Folders that get their name only when they are whole.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::layout;

/// A folder that the set-up makes. It is filled beside its place and renamed.
pub(crate) struct Place {
    path: PathBuf,
}

impl Place {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder beside the place for what is not finished. Downloads in it outlive an interruption.
    pub(crate) fn partial(&self) -> PathBuf {
        beside(&self.path, ".partial")
    }

    /// An empty folder to fill.
    pub(crate) fn fresh(&self) -> Result<PathBuf> {
        let fresh = self.partial().join("tree");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).context("remove what an interrupted set-up left")?;
        }
        fs::create_dir_all(&fresh).with_context(|| format!("make {}", fresh.display()))?;
        Ok(fresh)
    }

    /// Gives the filled folder the name of the place.
    pub(crate) fn put(&self, fresh: &Path) -> Result<()> {
        if is_link(&self.path) {
            fs::remove_file(&self.path).with_context(|| format!("remove the link {}", self.path.display()))?;
        }
        self.clear()?;
        fs::rename(fresh, &self.path).with_context(|| format!("put {} in place", self.path.display()))?;
        self.forget()
    }

    /// Makes the place a link to `target`.
    pub(crate) fn point_to(&self, target: &Path) -> Result<()> {
        let link = beside(&self.path, ".new");
        let _ = fs::remove_file(&link);
        symlink(target, &link).with_context(|| format!("make the link {}", link.display()))?;
        self.clear()?;
        // Replaces a former link in one step.
        fs::rename(&link, &self.path).with_context(|| format!("make the link {}", self.path.display()))?;
        self.forget()
    }

    /// Moves a folder that the set-up made out of the way; another one is the user's and stays.
    fn clear(&self) -> Result<()> {
        if is_link(&self.path) || !self.path.exists() {
            return Ok(());
        }
        if !layout::has_record(&self.path) {
            bail!("{} was not made by the set-up: move it away", self.path.display());
        }
        // Moved whole before it is removed: an interruption leaves no half folder under the name.
        let former = self.partial().join("former");
        if former.exists() {
            fs::remove_dir_all(&former).context("remove what an interrupted set-up left")?;
        }
        fs::create_dir_all(self.partial()).context("make a folder for the former one")?;
        fs::rename(&self.path, &former).with_context(|| format!("move the former {} away", self.path.display()))
    }

    fn forget(&self) -> Result<()> {
        let partial = self.partial();
        if !partial.exists() {
            return Ok(());
        }
        fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))
    }
}

pub(crate) fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink())
}

/// The path with something added to its last name.
pub(crate) fn beside(path: &Path, added: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(added);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::layout::Layout;
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pipe-xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn fill(place: &Place, text: &str) -> Result<()> {
        let fresh = place.fresh().unwrap();
        fs::write(fresh.join("torch"), text).unwrap();
        layout::write_record(&fresh, Layout::Links).unwrap();
        place.put(&fresh)
    }

    fn torch(place: &Place) -> String {
        fs::read_to_string(place.path().join("torch")).unwrap()
    }

    #[test]
    fn a_finished_folder_replaces_only_what_the_set_up_made() {
        let root = scratch("place");
        let place = Place::new(root.join(".libtorch"));
        fill(&place, "first").unwrap();
        fill(&place, "second").unwrap();
        assert_eq!(torch(&place), "second");
        assert!(!place.partial().exists());
        fs::remove_file(place.path().join(".pipe-setup")).unwrap();
        for refused in [fill(&place, "third"), place.point_to(&root)] {
            assert!(refused.unwrap_err().to_string().contains("move it away"));
        }
        assert_eq!(torch(&place), "second");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_link_takes_the_place_of_a_folder_and_of_another_link() {
        let root = scratch("point");
        let [first, second] = ["first", "second"].map(|name| Place::new(root.join(name)));
        fill(&first, "first").unwrap();
        fill(&second, "second").unwrap();
        let place = Place::new(root.join(".libtorch"));
        fill(&place, "folder").unwrap();
        place.point_to(first.path()).unwrap();
        assert_eq!(torch(&place), "first");
        place.point_to(second.path()).unwrap();
        assert_eq!(torch(&place), "second");
        assert!(!place.partial().exists());
        // A folder takes the link's place, and what the link pointed to stays.
        fill(&place, "folder").unwrap();
        assert_eq!((torch(&place), torch(&second)), ("folder".into(), "second".into()));
        fs::remove_dir_all(root).unwrap();
    }
}
