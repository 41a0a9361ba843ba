//! Files of a run, and none outside of it, whatever names and links lead there.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Component, Path};

use pipe_vocab::files;

use crate::problem::{Answer, Problem};

/// Opens a regular file below a folder. Where a link, also one that is made meanwhile, leads out of it, there is none.
pub fn open(folder: &Path, name: &str) -> Answer<File> {
    let absent = || Problem::absent(format!("the run has no file {name:?}"));
    let path = Path::new(name);
    let plain = !name.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || name.contains('\0') {
        return Err(absent());
    }
    let file = files::open(&folder.join(path)).map_err(|_| absent())?;
    // Of the file that is open, not of its name: that may mean another one by now.
    let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| absent())?;
    let folder = folder.canonicalize().map_err(|_| absent())?;
    if real.starts_with(&folder) { Ok(file) } else { Err(absent()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("run");
        fs::create_dir_all(run.join("deep")).unwrap();
        fs::write(root.path().join("secret"), "s").unwrap();
        fs::write(run.join("deep/own"), "o").unwrap();
        std::os::unix::fs::symlink("../secret", run.join("link")).unwrap();
        std::os::unix::fs::symlink("..", run.join("up")).unwrap();
        std::os::unix::fs::symlink("deep/own", run.join("inner")).unwrap();
        for name in ["deep/own", "inner"] {
            assert!(open(&run, name).is_ok(), "{name}");
        }
        let absolute = root.path().join("secret");
        let absolute = absolute.to_str().unwrap();
        for name in
            ["", ".", "..", "../secret", "deep/../../secret", "link", "up/secret", "deep", "absent", "own\0", absolute]
        {
            assert!(open(&run, name).is_err(), "{name}");
        }
    }
}
