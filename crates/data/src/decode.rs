//! Images from files.

use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use exif::{In, Tag};
use pipe_vocab::files;
use tch::Tensor;

use super::image::Image;
use super::raster;

/// File extensions of images. Another file is an image if it begins like one.
const EXTENSIONS: [&str; 12] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"];

/// Files of images are not larger than this: 1 GiB.
const MAX_BYTES: u64 = 1 << 30;

/// Reads a JPEG, PNG, WebP, GIF (first frame), BMP, TIFF (first page) or PNM file, told by its content, as RGB bytes. Gray and CMYK become RGB, transparency is dropped.
///
/// With `exif` the image is rotated according to its EXIF orientation; without it pixels stay as stored, which is what
/// annotations of COCO refer to.
///
/// # Errors
/// When the file cannot be read, is no regular file, or is not a complete image of a believable size: its path, and why.
pub fn read_image(path: &Path, exif: bool) -> Result<Image> {
    let bytes = files::read(path, MAX_BYTES).with_context(|| format!("cannot read the image {}", path.display()))?;
    decode_image(&bytes, exif).with_context(|| format!("cannot decode the image {}", path.display()))
}

/// As [`read_image`], from the bytes of a file.
///
/// # Errors
/// When they are not a complete image.
pub fn decode_image(bytes: &[u8], exif: bool) -> Result<Image> {
    if let Some(format) = raster::format(bytes) {
        return raster::decode(bytes, format, exif);
    }
    let planes = pipe_native::image::decode(bytes, exif)?;
    let [channels, height, width] = planes.size()[..] else { anyhow::bail!("not an image: {:?}", planes.size()) };
    // The decoder lends rows of whole pixels as planes, so nothing moves here but the copy out.
    interleaved(&planes, height as usize, width as usize, channels as usize)
}

fn interleaved(planes: &Tensor, height: usize, width: usize, channels: usize) -> Result<Image> {
    let bytes = pipe_native::buffer::bytes(&planes.f_permute([1, 2, 0])?.f_contiguous()?)?;
    Ok(Image::from_u8(height, width, channels, bytes))
}

/// `[height, width]` of an image in pixels, turned upright by its EXIF orientation; only its headers are read.
///
/// # Errors
/// When the file cannot be read, or is no image of a format that is read.
pub fn upright_size(path: &Path) -> Result<[usize; 2]> {
    let cannot = || format!("cannot read the size of the image {}", path.display());
    files::open(path).with_context(cannot)?;
    let size = imagesize::size(path).with_context(cannot)?;
    let mut file = BufReader::new(files::open(path).with_context(cannot)?);
    // An image without EXIF is as it is.
    let exif = exif::Reader::new().read_from_container(&mut file).ok();
    let orientation = exif.and_then(|exif| exif.get_field(Tag::Orientation, In::PRIMARY)?.value.get_uint(0));
    let sideways = orientation.is_some_and(|orientation| (5..=8).contains(&orientation));
    Ok(if sideways { [size.width, size.height] } else { [size.height, size.width] })
}

/// Whether a file is an image: by its extension, else by how it begins.
pub fn is_image_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str())) || begins_like_one(path)
}

fn begins_like_one(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = files::open(path).and_then(|file| file.take(16).read_to_end(&mut head));
    let torchvisions = matches!(
        head[..],
        [0xff, 0xd8, 0xff, ..]
            | [0x89, b'P', b'N', b'G', ..]
            | [b'G', b'I', b'F', b'8', ..]
            | [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..]
    );
    read.is_ok() && (torchvisions || raster::format(&head).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_back_as_it_was_encoded() {
        let values: Vec<u8> = (0..2 * 3 * 3).map(|i| i * 9).collect();
        let planes = Tensor::from_slice(&values).view([2, 3, 3]).permute([2, 0, 1]).contiguous();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, pipe_native::image::encode_png(&planes, 6).unwrap()).unwrap();
        assert_eq!(read_image(&path, false).unwrap(), Image::from_u8(2, 3, 3, values));
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.jpg");
        assert!(read_image(&missing, false).unwrap_err().to_string().contains("missing.jpg"));
        let image = Tensor::zeros([3, 64, 64], (tch::Kind::Uint8, tch::Device::Cpu));
        let whole = pipe_native::image::encode_jpeg(&image, 90).unwrap();
        for (name, bytes) in
            [("cut.jpg", &whole[..whole.len() / 2]), ("text.jpg", b"this is not an image at all".as_slice())]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let error = format!("{:#}", read_image(&path, false).unwrap_err());
            assert!(error.contains(name) && error.contains("decode"), "{error}");
        }
        let device = folder.path().join("device.jpg");
        std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
        let error = format!("{:#}", read_image(&device, false).unwrap_err());
        assert!(error.contains("device.jpg") && error.contains("not a regular file"), "{error}");
    }
}
