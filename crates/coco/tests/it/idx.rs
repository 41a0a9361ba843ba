//! The IDX format of MNIST: a tensor of bytes with its shape, plain or gzipped.
//!
//! Two zero bytes, a type (8: unsigned bytes), the number of dimensions, each dimension as a big-endian 32-bit number,
//! then the data, row-major (<http://yann.lecun.com/exdb/mnist/>).

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;

/// The most dimensions a file may claim.
const MOST_DIMENSIONS: usize = 4;
/// The most bytes a file may claim; the largest such data set in use, EMNIST, has about half of it.
const MOST_BYTES: u64 = 1 << 30;

/// A tensor of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    /// Its dimensions: `[N, H, W]` for pictures, `[N]` for labels.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub data: Vec<u8>,
}

impl Idx {
    /// Reads a file, gzipped or not (told by its first bytes, not its name).
    ///
    /// # Errors
    /// A file that cannot be read, is of another format or type, is cut short or has bytes left over.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Self::read(BufReader::new(file)).with_context(|| format!("in {}", path.display()))
    }

    /// As [`Idx::open`], from any reader.
    ///
    /// # Errors
    /// As [`Idx::open`].
    pub fn read(mut reader: impl Read) -> Result<Self> {
        let mut start = [0; 2];
        reader.read_exact(&mut start).context("the file is empty or cut short")?;
        let whole = start.chain(reader);
        if start == [0x1f, 0x8b] { Self::parse(MultiGzDecoder::new(whole)) } else { Self::parse(whole) }
    }

    /// Pictures `[N, H, W]`.
    ///
    /// # Errors
    /// As [`Idx::open`], and a file of another number of dimensions, such as labels.
    pub fn images(path: &Path) -> Result<Self> {
        Self::open(path)?.with_dimensions(3, path, "pictures [N, H, W]")
    }

    /// Labels `[N]`.
    ///
    /// # Errors
    /// As [`Idx::open`], and a file of another number of dimensions, such as pictures.
    pub fn labels(path: &Path) -> Result<Self> {
        Self::open(path)?.with_dimensions(1, path, "labels [N]")
    }

    fn with_dimensions(self, dimensions: usize, path: &Path, what: &str) -> Result<Self> {
        ensure!(
            self.shape.len() == dimensions,
            "{} holds a tensor of shape {:?}, not {what}; are pictures and labels exchanged?",
            path.display(),
            self.shape
        );
        Ok(self)
    }

    fn parse(mut reader: impl Read) -> Result<Self> {
        let mut head = [0; 4];
        reader.read_exact(&mut head).context("the file is cut short in its head")?;
        let [zero, none, kind, dimensions] = head;
        if [zero, none] != [0, 0] {
            bail!(
                "not an IDX file: it starts with {head:02x?}, IDX with two zero bytes (an error page saved in its place?)"
            );
        }
        ensure!(kind == 8, "values of type {kind:#04x}; only unsigned bytes (0x08) are read");
        let dimensions = usize::from(dimensions);
        ensure!(
            (1..=MOST_DIMENSIONS).contains(&dimensions),
            "{dimensions} dimensions; 1 to {MOST_DIMENSIONS} are read"
        );

        let mut shape = Vec::with_capacity(dimensions);
        for _ in 0..dimensions {
            let mut side = [0; 4];
            reader.read_exact(&mut side).context("the file is cut short in its head")?;
            shape.push(u32::from_be_bytes(side) as usize);
        }
        let size = shape.iter().try_fold(1u64, |size, &side| size.checked_mul(side as u64));
        let size = size.filter(|&size| size <= MOST_BYTES);
        let size = size.with_context(|| format!("a shape of {shape:?} is too large to be true"))?;

        let mut data = Vec::new();
        // One byte more than there should be, to notice more.
        reader.take(size + 1).read_to_end(&mut data).context("the file is damaged or cut short")?;
        let found = data.len() as u64;
        ensure!(found >= size, "the shape {shape:?} needs {size} bytes, only {found} follow: fetch the file again");
        ensure!(found == size, "bytes are left over after the {size} of the shape {shape:?}: the file is damaged");
        Ok(Self { shape, data })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const SMALL: [u8; 18] = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 7, 9];

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_zipped_are_the_same() {
        let plain = Idx::read(&SMALL[..]).unwrap();
        assert_eq!(plain, Idx { shape: vec![1, 2, 1], data: vec![7, 9] });
        assert_eq!(Idx::read(&zipped(&SMALL)[..]).unwrap(), plain);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |bytes: &[u8], expected: &str| {
            let error = format!("{:#}", Idx::read(bytes).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        let changed = |at: usize, value: u8| {
            let mut bytes = SMALL;
            bytes[at] = value;
            bytes
        };
        check(b"", "empty");
        check(b"<!DOCTYPE html>", "not an IDX file");
        check(&SMALL[..3], "cut short in its head");
        check(&SMALL[..10], "cut short in its head");
        check(&SMALL[..17], "needs 2 bytes, only 1 follow");
        check(&[&SMALL[..], &[0]].concat(), "left over");
        check(&changed(2, 0x0d), "type 0x0d");
        check(&changed(3, 0), "0 dimensions");
        check(&changed(4, 0xff), "too large to be true");
        let zipped = zipped(&SMALL);
        check(&zipped[..zipped.len() - 9], "cut short");
    }

    #[test]
    fn labels_in_place_of_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels");
        std::fs::write(&path, [0, 0, 8, 1, 0, 0, 0, 1, 5]).unwrap();
        assert_eq!(Idx::labels(&path).unwrap().data, [5]);
        let error = Idx::images(&path).unwrap_err().to_string();
        assert!(error.contains("labels") && error.contains("exchanged"), "{error}");
        assert!(Idx::open(&folder.path().join("none")).unwrap_err().to_string().contains("cannot open"));
    }
}
