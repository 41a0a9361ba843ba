//! A short text by which data are known again.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result};

/// Takes bytes in and gives a short text of them: the same bytes give the same text, others hardly ever do. It guards against
/// mistakes, not against malice.
#[derive(Debug, Clone, Default)]
pub struct Fingerprint {
    sum: crc32fast::Hasher,
    bytes: u64,
}

impl Fingerprint {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Fingerprint {
        Fingerprint::default().with(bytes)
    }

    /// And of these.
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Fingerprint {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        self
    }

    /// And of what a file holds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn with_file(mut self, path: &Path) -> Result<Fingerprint> {
        let mut read = || -> io::Result<()> {
            let mut file = File::open(path)?;
            let mut buffer = vec![0; 1 << 18];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(()),
                    count => self = std::mem::take(&mut self).with(&buffer[..count]),
                }
            }
        };
        read().with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self)
    }

    /// The text.
    pub fn text(&self) -> String {
        format!("crc32:{:08x}:{}", self.sum.clone().finalize(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_give_the_same_text_wherever_they_come_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"123456789").unwrap();
        // The check value of CRC-32 (ISO 3309).
        assert_eq!(Fingerprint::of(b"123456789").text(), "crc32:cbf43926:9");
        assert_eq!(Fingerprint::of(b"1234").with(b"56789").text(), "crc32:cbf43926:9");
        assert_eq!(Fingerprint::default().with_file(&path).unwrap().text(), "crc32:cbf43926:9");
        assert_ne!(Fingerprint::of(b"123456780").text(), "crc32:cbf43926:9");
        let said = format!("{:#}", Fingerprint::default().with_file(&path.join("b")).unwrap_err());
        assert!(said.contains("a/b"), "{said}");
    }
}
