//! Files of images in folders and below them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use pipe_data::decode::is_image_file;
use walkdir::{DirEntry, WalkDir};

/// Everything below a folder, its entries sorted by name so that every machine sees one order.
pub(super) fn sorted(folder: &Path) -> WalkDir {
    WalkDir::new(folder).sort_by_file_name().min_depth(1)
}

/// All files in a folder and below it, in order, but for what lies in hidden folders. Links to folders are followed, except back to
/// one that they lie in. A link that leads nowhere is a file all the same: reading it says so.
pub(super) fn below(folder: &Path) -> impl Iterator<Item = Result<PathBuf>> {
    let path_of = move |entry: walkdir::Result<DirEntry>| match entry {
        Ok(entry) if entry.file_type().is_dir() => None,
        Ok(entry) => Some(Ok(entry.into_path())),
        Err(error) if error.loop_ancestor().is_some() => None,
        Err(error) => match error.path() {
            Some(path) if error.depth() > 0 && !path.is_dir() => Some(Ok(path.to_owned())),
            _ => Some(Err(unreadable(error))),
        },
    };
    let hidden = |entry: &DirEntry| entry.depth() > 0 && entry.file_type().is_dir() && is_hidden(entry);
    sorted(folder).follow_links(true).into_iter().filter_entry(move |entry| !hidden(entry)).filter_map(path_of)
}

/// Whether a file is an image, and not one that a system has hidden beside them (`._cat.jpg`).
pub(super) fn is_shown_image(path: &Path) -> bool {
    !has_hidden_name(path) && is_image_file(path)
}

pub(super) fn has_hidden_name(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// Which folder cannot be read, and why.
pub(super) fn unreadable(error: walkdir::Error) -> anyhow::Error {
    let folder = error.path().unwrap_or(Path::new("")).display().to_string();
    let error = error.into_io_error().unwrap_or_else(|| std::io::Error::other("a link leads round in a circle"));
    anyhow::Error::new(error).context(format!("cannot read the folder {folder}"))
}
