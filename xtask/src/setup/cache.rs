//! The user's cache: each libtorch is unpacked there once, for all checkouts.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::fetch;
use super::layout::{self, Layout, TORCH};
use super::place::{Place, beside};
use crate::shell::step;

/// `$PIPE_LIBTORCH_CACHE`, else `$XDG_CACHE_HOME/pipe/libtorch`, else `~/.cache/pipe/libtorch`.
pub(crate) fn folder() -> Result<PathBuf> {
    folder_by(|name| std::env::var_os(name))
}

fn folder_by(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(own) = set("PIPE_LIBTORCH_CACHE") {
        return std::path::absolute(own).context("PIPE_LIBTORCH_CACHE");
    }
    // A relative one is to be ignored, says the specification of these folders.
    let cache = set("XDG_CACHE_HOME").filter(|dir| dir.is_absolute()).or_else(|| set("HOME").map(|h| h.join(".cache")));
    Ok(cache
        .context("no folder for libtorch: set PIPE_LIBTORCH_CACHE (or XDG_CACHE_HOME, or HOME)")?
        .join("pipe/libtorch"))
}

/// The cache, and where a libtorch of that layout lies in it.
pub(crate) fn place(wanted: Layout) -> Result<(PathBuf, PathBuf)> {
    let cache = folder()?;
    let place = cache.join(format!("{TORCH}-{}", wanted.name()));
    Ok((cache, place))
}

/// The folder with a whole libtorch of that layout; it is fetched if it is not there.
pub(crate) fn ready(wanted: Layout) -> Result<PathBuf> {
    let place = Place::new(place(wanted)?.1);
    let whole = || layout::read_record(place.path()) == Some(wanted);
    if !whole() {
        let _lock = lock(place.path())?;
        // Another set-up may have made it in the meantime.
        if !whole() {
            fetch::fetch(&place, wanted)?;
        }
    }
    Ok(place.path().to_path_buf())
}

/// Keeps other set-ups away from `path` until it is dropped; waits for the one that is at work there.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let name = beside(path, ".lock");
    let folder = name.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let file = File::create(&name).with_context(|| format!("write {}", name.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => step(&format!("wait for the set-up that is making {}", path.display())),
        Err(TryLockError::Error(_)) => {}
    }
    file.lock().with_context(|| {
        format!("lock {}: if that disk has no locks, set PIPE_LIBTORCH_CACHE to a folder elsewhere", name.display())
    })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<PathBuf> {
        folder_by(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_cache_is_where_the_variables_say() {
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "")]).unwrap(), Path::new("/h/.cache/pipe/libtorch"));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "x")]).unwrap(), Path::new("/h/.cache/pipe/libtorch"));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap(), Path::new("/x/pipe/libtorch"));
        assert_eq!(with(&[("HOME", "/h"), ("PIPE_LIBTORCH_CACHE", "/p")]).unwrap(), Path::new("/p"));
        assert!(with(&[]).unwrap_err().to_string().contains("PIPE_LIBTORCH_CACHE"));
    }

    #[test]
    fn a_second_set_up_waits_for_the_first() {
        let folder = std::env::temp_dir().join(format!("pipe-xtask-lock-{}", std::process::id()));
        let path = folder.join("thing");
        let first = lock(&path).unwrap();
        let second = std::thread::spawn({
            let path = path.clone();
            move || {
                let _lock = lock(&path).unwrap();
                path.exists()
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        fs::write(&path, "made by the first").unwrap();
        drop(first);
        assert!(second.join().unwrap(), "it got the lock before the first was done");
        fs::remove_dir_all(folder).unwrap();
    }
}
