//! Folders that appear completely or not at all.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Written last into a folder; holds what the folder was made from.
const STAMP: &str = ".pipe-synthetic";
/// A partial folder untouched for so long is left over from a run that was killed.
const STALE: Duration = Duration::from_secs(3600);

/// Makes `root` by `write`, unless it was made from the same `stamp` before.
///
/// `write` fills a folder beside `root`, which is renamed when complete: an interrupted run leaves no half-written data
/// set, and of two processes at once one wins and the other uses its folder. A folder made from another stamp is replaced.
///
/// # Errors
/// When a folder of that name exists that this function did not make, or something cannot be written.
pub(super) fn publish(root: &Path, stamp: &str, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if is_complete(root, stamp)? {
        return Ok(());
    }
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = root.file_name().with_context(|| format!("{} is not a folder name", root.display()))?;
    let prefix = format!(".{}.partial-", name.to_string_lossy());
    fs::create_dir_all(parent).with_context(|| format!("cannot create the folder {}", parent.display()))?;
    sweep(parent, &prefix);

    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let partial = parent.join(format!("{prefix}{}-{number}", std::process::id()));
    let written = fs::create_dir(&partial)
        .map_err(anyhow::Error::from)
        .and_then(|()| write(&partial))
        .and_then(|()| Ok(fs::write(partial.join(STAMP), stamp)?))
        .with_context(|| format!("cannot write {}", partial.display()))
        .and_then(|()| swap_in(&partial, root, stamp));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

/// Whether `root` holds what the stamp describes.
fn is_complete(root: &Path, stamp: &str) -> Result<bool> {
    match fs::read_to_string(root.join(STAMP)) {
        Ok(found) => Ok(found == stamp),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let foreign = fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some());
            if foreign {
                bail!("{} exists and was not made by pipe; remove it or choose another folder", root.display());
            }
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", root.join(STAMP).display())),
    }
}

fn swap_in(partial: &Path, root: &Path, stamp: &str) -> Result<()> {
    if fs::rename(partial, root).is_ok() {
        return Ok(());
    }
    if is_complete(root, stamp)? {
        // Another process was faster with the same contents.
        return fs::remove_dir_all(partial).with_context(|| format!("cannot remove {}", partial.display()));
    }
    let mut old = partial.as_os_str().to_owned();
    old.push("-old");
    let moved = fs::rename(root, &old).and_then(|()| fs::rename(partial, root));
    // Gone if another process replaced it in the same moment; then its folder is in place.
    let _ = fs::remove_dir_all(&old);
    if moved.is_err() && is_complete(root, stamp)? {
        let _ = fs::remove_dir_all(partial);
        return Ok(());
    }
    moved.with_context(|| format!("cannot move {} into place", root.display()))
}

/// Removes what killed runs left; failing to is no reason to stop.
fn sweep(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(prefix);
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        if ours && age.is_some_and(|age| age > STALE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_once_and_is_replaced_by_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("deep/set");
        let file = root.join("a.txt");
        let write = |text: &'static str| move |at: &Path| Ok(fs::write(at.join("a.txt"), text)?);
        publish(&root, "one", write("1")).unwrap();
        publish(&root, "one", |_| bail!("not called")).unwrap();
        let error = publish(&root, "two", |_| bail!("disk full")).unwrap_err();
        assert!(format!("{error:#}").contains("disk full"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "1", "a failed write leaves the old folder");
        publish(&root, "two", write("2")).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "2");
        let left = fs::read_dir(root.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no partial folders");
    }

    #[test]
    fn many_at_once_and_foreign_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("set");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| publish(&root, "one", |at| Ok(fs::write(at.join("a"), "1")?)).unwrap());
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let foreign = folder.path().join("mine");
        fs::create_dir(&foreign).unwrap();
        publish(&foreign, "one", |_| Ok(())).unwrap();
        let precious = folder.path().join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("thesis.tex"), "x").unwrap();
        let error = publish(&precious, "one", |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("not made by pipe"), "{error}");
    }
}
