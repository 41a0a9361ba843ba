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

/// The error of decoding these bytes.
fn refused(bytes: &[u8]) -> String {
    format!("{:#}", decode(bytes, true).unwrap_err())
}

#[test]
fn claims_that_are_not_believed_are_refused_before_memory_is_taken() {
    let parity = Parity::read("images.safetensors");
    let mut jpeg = file(&parity, "jpeg");
    // SOF0: marker, length, precision, height, width.
    let at = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[at + 5..at + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    assert!(refused(&jpeg).contains("claims to have 65500 × 65500 pixels"), "{}", refused(&jpeg));

    let mut png = file(&parity, "png");
    png[16..24].copy_from_slice(&[0, 0, 0xff, 0xdc, 0, 0, 0xff, 0xdc]);
    let sum = crc32fast::hash(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    assert!(refused(&png).contains("65500 × 65500"), "{}", refused(&png));

    let mut gif = file(&parity, "gif");
    gif[6..10].copy_from_slice(&[0xdc, 0xff, 0xdc, 0xff]);
    assert!(refused(&gif).contains("65500 × 65500"), "{}", refused(&gif));

    // 16384 by 16384, in each of the three kinds of WebP.
    for (kind, body) in [
        (b"VP8 ", &[0, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f][..]),
        (b"VP8L", &[0x2f, 0xff, 0xff, 0xff, 0x0f]),
        (b"VP8X", &[0, 0, 0, 0, 0xff, 0x3f, 0, 0xff, 0x3f, 0]),
    ] {
        let webp = [b"RIFF\x1e\0\0\0WEBP", &kind[..], &[10, 0, 0, 0], body, &[0; 16]].concat();
        assert!(refused(&webp).contains("pixels, which is not believed"), "{}", refused(&webp));
    }
}

#[test]
fn a_jpeg_of_very_many_scans_is_refused() {
    let progressive = file(&Parity::read("images.safetensors"), "jpeg_progressive");
    let last = progressive.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
    let scan = &progressive[last..progressive.len() - 2];
    let repeated = |times| [&progressive[..last], &scan.repeat(times), &[0xff, 0xd9]].concat();
    assert!(decode(&repeated(1), true).is_ok());
    assert!(refused(&repeated(300)).contains("scans"), "{}", refused(&repeated(300)));
}

/// A GIF of one frame of 2 by 1 pixels, whose table has two colours.
fn gif(screen: u8, left: u8, codes: &[u8]) -> Vec<u8> {
    let frame = [0x2c, left, 0, 0, 0, 2, 0, 1, 0, 0];
    let header = [b"GIF89a", &[screen, 0, 1, 0, 0x80, 0, 0][..], &[10, 20, 30, 40, 50, 60]].concat();
    [&header[..], &frame, &[8, codes.len() as u8], codes, &[0, 0x3b]].concat()
}

#[test]
fn a_gif_stays_within_its_screen_and_its_colours() {
    // Codes of nine bits, lowest first: clear, 1, `second`, end.
    let codes = |second: u32| {
        let bits = 256u64 | 1 << 9 | u64::from(second) << 18 | 257 << 27;
        bits.to_le_bytes()[..5].to_vec()
    };
    let pixels = |bytes: &[u8]| Vec::<u8>::try_from(decode(bytes, true).unwrap().select(0, 0).flatten(0, -1)).unwrap();
    assert_eq!(pixels(&gif(2, 0, &codes(0))), [40, 10]);
    // A colour that the table does not have is black, whatever lies behind the table in memory.
    assert_eq!(pixels(&gif(2, 0, &codes(200))), [40, 0]);
    for left in [1, 127, 255] {
        let error = refused(&gif(2, left, &codes(0)));
        assert!(error.contains(&format!("at {left}, 0 lies outside its screen of 2 × 1")), "{error}");
    }
    assert!(refused(&gif(2, 0, &codes(0))[..30]).contains("cut"));
}
