//! Files that are either complete or absent.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// Writes a file through a temporary one beside it, synced before it takes the name. A reader sees the old file or the new
/// one, never half of it.
///
/// # Errors
/// When any step fails; an older file of that name is then untouched and the temporary one is removed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| Ok(file.write_all(bytes)?))
}

/// As [`write()`], with the content written by `fill`.
///
/// # Errors
/// As [`write()`], and those of `fill`.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> Result<()> {
        let mut temporary =
            tempfile::Builder::new().prefix(".").suffix(".tmp").permissions(mode()).tempfile_in(folder)?;
        fill(temporary.as_file_mut())?;
        temporary.as_file().sync_all()?;
        put(temporary, path)?;
        sync_folder(folder)
    };
    write().with_context(|| format!("cannot write {}; the previous version is unchanged", path.display()))
}

/// Whether a file is the temporary one of a write that was killed; nobody else gives such names.
pub fn is_leftover(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix('.')).and_then(|name| name.strip_suffix(".tmp"));
    random.is_some_and(|random| random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Removes what killed writes have left in a folder, where nobody writes to it now. One that cannot be removed stays.
pub fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_leftover(&entry.file_name()) {
            // It is in nobody's way.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn put(temporary: NamedTempFile, path: &Path) -> Result<()> {
    temporary.persist(path).map(drop).map_err(|error| error.error.into())
}

/// The mode of an ordinary file, less the process's mask: temporary files are their owner's alone otherwise.
fn mode() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o666)
}

/// Makes the names in a folder durable.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let sync = || File::open(folder)?.sync_all();
    sync().with_context(|| format!("cannot sync {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write(&path, b"old").unwrap();
        let error = write_with(&path, |file| {
            file.write_all(b"half")?;
            anyhow::bail!("the disk is full")
        });
        assert!(format!("{:#}", error.unwrap_err()).contains("the disk is full"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn what_a_killed_write_leaves_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        let make = || tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(folder.path()).unwrap();
        let (_, left) = make().keep().unwrap();
        for name in [".a.tmp", "abcdef.tmp", ".abcdef.tmp2", ".abc-ef.tmp"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        sweep(folder.path());
        assert!(!left.exists());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4, "others are not ours");
    }

    #[test]
    fn files_are_readable_by_others_as_any_other_file_is() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plain"), "").unwrap();
        write(&folder.path().join("whole"), b"").unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("plain"), mode("whole"));
    }
}
