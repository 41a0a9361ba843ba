//! Images of the formats that people have, against Pillow's reading of them (`images/make.py`).

use std::path::Path;

use pipe_data::Image;
use pipe_data::SampleRng;
use pipe_data::decode::{is_image_file, read_image, upright_size};
use rand::{Rng, SeedableRng};
use serde_json::Value;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images"))
}

fn expected() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_format_is_read_as_pillow_reads_it() {
    for (name, expected) in expected() {
        let path = folder().join(&name);
        let size = [0, 1].map(|i| expected["size"][i].as_u64().unwrap() as usize);
        let rgb = expected["rgb"].as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as u8).collect();
        assert!(is_image_file(&path), "{name}");
        let image = read_image(&path, false).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!(image, Image::from_u8(size[0], size[1], 3, rgb), "{name}");
        let turned = name.starts_with("turned");
        let upright = if turned { [size[1], size[0]] } else { size };
        assert_eq!(upright_size(&path).unwrap(), upright, "{name}");
    }
}

#[test]
fn the_orientation_of_a_tiff_is_seen_when_asked_for() {
    let turned = read_image(&folder().join("turned.tif"), true).unwrap();
    assert_eq!((turned.height, turned.width), (7, 5));
    let stored = read_image(&folder().join("turned.tif"), false).unwrap().to_f32();
    let upright = turned.to_f32();
    assert_eq!(upright[4 * 3..5 * 3], stored[..3], "the first pixel comes to the upper right");
}

#[test]
fn what_is_no_image_or_a_cut_one_is_an_error() {
    let error = |path: &Path| format!("{:#}", read_image(path, false).unwrap_err());
    let float = error(&folder().join("float.tif"));
    assert!(float.contains("float.tif") && float.contains("read are 8 and 16 bits"), "{float}");
    let cut = tempfile::tempdir().unwrap();
    for name in ["rgb.bmp", "lzw.tif", "rgb.ppm"] {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        let path = cut.path().join(name);
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = error(&path);
        assert!(error.contains(name) && error.contains("damaged"), "{error}");
    }
    let claim = cut.path().join("large.ppm");
    std::fs::write(&claim, "P6 60000 60000 255\nabc").unwrap();
    assert!(error(&claim).contains("60000 × 60000 pixels, which is not believed of 22 bytes"), "{}", error(&claim));
    let text = cut.path().join("notes.txt");
    std::fs::write(&text, "PS: BM is no magic of a text").unwrap();
    assert!(!is_image_file(&text));
}

#[test]
fn damage_is_an_error_or_another_image() {
    let mut dice = SampleRng::seed_from_u64(1);
    let names = [
        "rgb.bmp",
        "palette.bmp",
        "bits.bmp",
        "lzw.tif",
        "palette.tif",
        "deep.tif",
        "bits.tif",
        "rgb.ppm",
        "ascii.ppm",
    ];
    let files = names.map(|name| std::fs::read(folder().join(name)).unwrap());
    for _ in 0..3000 {
        let mut bytes = files[dice.random_range(0..files.len())].clone();
        for _ in 0..dice.random_range(1..5) {
            let at = dice.random_range(0..bytes.len());
            match dice.random_range(0..4) {
                0 => bytes[at] = dice.random(),
                1 => bytes[at] = [0, 0x7f, 0x80, 0xff][dice.random_range(0..4)],
                2 => drop(bytes.splice(at..(at + 4).min(bytes.len()), [0xff; 4])),
                _ => bytes.truncate(at.max(16)),
            }
        }
        // What it comes to does not matter, but that it comes to an end.
        let _ = pipe_data::decode::decode_image(&bytes, dice.random());
    }
}
