//! Reading files that anyone may have written: only regular ones, and only as much as the reader is made for.
//!
//! A device has no end, and opening a pipe waits for its writer: both are refused before they are opened, also behind links.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file.
///
/// # Errors
/// When there is none, it may not be read, or it is something else: a folder, device, pipe or socket.
pub fn open(path: &Path) -> io::Result<File> {
    // Asked before it is opened: opening a pipe would wait.
    check(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// The bytes of a regular file.
///
/// # Errors
/// Those of [`open`]; a file of more than `limit` bytes, whatever length it claims.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > limit {
        return Err(too_long(limit));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(too_long(limit));
    }
    Ok(bytes)
}

/// The text of a regular file.
///
/// # Errors
/// Those of [`read`]; [`io::ErrorKind::InvalidData`] for bytes that are not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8");
    String::from_utf8(read(path, limit)?).map_err(invalid)
}

fn check(meta: &fs::Metadata) -> io::Result<()> {
    match meta.file_type() {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder")),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a device, pipe or socket, not a regular file")),
    }
}

fn too_long(limit: u64) -> io::Error {
    let limit = match limit {
        0..0x10_0000 => format!("{limit} bytes"),
        _ => format!("{} MiB", limit >> 20),
    };
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().to_string(), "it is larger than 4 bytes");
        // A file that grew huge without holding anything.
        File::create(&path).unwrap().set_len(3 << 30).unwrap();
        assert_eq!(read(&path, 4 << 20).unwrap_err().to_string(), "it is larger than 4 MiB");

        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for other in [&link, &pipe] {
            let error = read(other, 5).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
        assert_eq!(read(folder.path(), 5).unwrap_err().to_string(), "it is a folder");
        assert_eq!(read(&folder.path().join("absent"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn texts_are_utf8() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::write(&path, "é").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "é");
    }
}
