//! The codecs against what torchvision made of the same bytes; damaged files; many threads.

use pipe_native::image::{decode, encode_jpeg, encode_png};
use tch::{Device, Kind, Tensor};

use crate::{Parity, difference};

fn file(parity: &Parity, name: &str) -> Vec<u8> {
    Vec::try_from(parity.get(&format!("{name}.file"))).unwrap()
}

const NAMES: [&str; 10] = [
    "jpeg",
    "jpeg_exif",
    "jpeg_grey",
    "jpeg_cmyk",
    "jpeg_progressive",
    "png",
    "png_alpha",
    "png_palette",
    "png_16",
    "gif",
];

#[test]
fn images_decode_as_torchvision_decodes_them() {
    let parity = Parity::read("images.safetensors");
    for name in NAMES {
        let got = decode(&file(&parity, name), true).unwrap();
        assert_eq!((got.kind(), got.device()), (Kind::Uint8, Device::Cpu));
        assert_eq!(got, parity.get(&format!("{name}.rgb")), "{name}");
    }
    // Turned by EXIF: 24 wide, 16 high become 16 wide, 24 high, only when asked.
    assert_eq!(decode(&file(&parity, "jpeg_exif"), true).unwrap().size(), [3, 24, 16]);
    assert_eq!(decode(&file(&parity, "jpeg_exif"), false).unwrap().size(), [3, 16, 24]);
}

#[test]
fn cut_and_damaged_files_are_errors_at_every_length() {
    let parity = Parity::read("images.safetensors");
    for name in NAMES {
        let whole = file(&parity, name);
        for len in (0..whole.len().saturating_sub(40)).step_by(7) {
            let got = decode(&whole[..len], true);
            // A progressive JPEG or a GIF may be cut where a coarse image is complete.
            if name != "gif" && name != "jpeg_progressive" {
                assert!(got.is_err(), "{name} cut to {len} of {} bytes", whole.len());
            }
        }
        let error = format!("{:#}", decode(&whole[..whole.len() / 3], true).unwrap_err());
        assert!(error.contains("cut") || error.contains("too few"), "{name}: {error}");
        // Whatever one byte becomes, the answer is an image or an error.
        for at in (1..whole.len()).step_by(10) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x5a;
            let _ = decode(&damaged, true);
        }
    }
    for junk in [&b""[..], b"\xff\xd8\xff", b"this is a text and no image at all", &[0; 64]] {
        assert!(decode(junk, true).is_err());
    }
}

#[test]
fn what_is_encoded_decodes_again() {
    let image = Parity::read("images.safetensors").get("png.rgb");
    assert_eq!(decode(&encode_png(&image, 6).unwrap(), false).unwrap(), image);
    let jpeg = decode(&encode_jpeg(&image, 95).unwrap(), false).unwrap();
    assert!(difference(&jpeg, &image) < 24.0);
    let grey = image.narrow(0, 1, 1);
    assert_eq!(decode(&encode_png(&grey, 6).unwrap(), false).unwrap(), grey.repeat([3, 1, 1]));

    let float = image.to_kind(Kind::Float);
    assert!(encode_png(&float, 6).unwrap_err().to_string().contains("u8 [3, H, W]"));
    assert!(encode_png(&Tensor::zeros([4, 2, 2], (Kind::Uint8, Device::Cpu)), 6).is_err());
    assert!(encode_png(&image, 10).unwrap_err().to_string().contains("0 to 9"));
    assert!(encode_jpeg(&image, 0).unwrap_err().to_string().contains("1 to 100"));
}

#[test]
fn many_threads_decode_at_once() {
    let parity = Parity::read("images.safetensors");
    let files: Vec<_> = NAMES.iter().map(|name| (file(&parity, name), parity.get(&format!("{name}.rgb")))).collect();
    let sums: Vec<i64> = files.iter().map(|(_, rgb)| i64::try_from(rgb.sum(Kind::Int64)).unwrap()).collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (files, sums) = (files.iter().map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>(), sums.clone());
            scope.spawn(move || {
                for turn in 0..40 {
                    let i = (thread + turn) % files.len();
                    // Broken ones in between: an error in one thread must not disturb another.
                    assert!(decode(&files[i][..20], true).is_err());
                    let got = decode(&files[i], true).unwrap();
                    assert_eq!(i64::try_from(got.sum(Kind::Int64)).unwrap(), sums[i]);
                }
            });
        }
    });
}
