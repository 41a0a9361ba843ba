//! Transforms beside torchvision's and PIL's own results (`tests/parity/transforms`).

use pipe_data::augment::Operation;
use pipe_data::{Field, Image, Masks, Pixels, Sample, color, fields, filter};
use pipe_data::{geometry, geometry::Affine, geometry::Interpolation, geometry::Window};
use serde_json::Value;

struct World(Value);

impl World {
    fn load() -> World {
        let text = std::fs::read_to_string("tests/parity/transforms/expected.json").unwrap();
        World(serde_json::from_str(&text).unwrap())
    }

    fn sample(&self) -> Sample {
        let (height, width) = (self.0["height"].as_u64().unwrap() as usize, self.0["width"].as_u64().unwrap() as usize);
        let planes = bytes(&self.0["masks"]);
        let boxes = boxes(&self.0["boxes"]);
        Sample::new()
            .with(fields::IMAGE, Field::Image(Image::from_u8(height, width, 3, bytes(&self.0["image"]))))
            .with(fields::MASKS, Field::Masks(Masks::from_bitmaps(height, width, planes.chunks(height * width))))
            .with(fields::BOXES, Field::Boxes(boxes))
    }

    /// With the image as floats.
    fn float_sample(&self) -> Sample {
        let mut sample = self.sample();
        let image = sample.image_mut().unwrap();
        image.pixels = Pixels::F32(image.to_f32());
        sample
    }

    fn entries(&self, name: &str) -> Vec<Value> {
        self.0[name].as_array().unwrap().clone()
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn boxes(value: &Value) -> Vec<[f32; 4]> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|b| numbers(b).iter().map(|&v| v as f32).collect::<Vec<_>>().try_into().unwrap())
        .collect()
}

fn image_bytes(sample: &Sample) -> &[u8] {
    match &sample.image().unwrap().pixels {
        Pixels::U8(bytes) => bytes,
        Pixels::F32(_) => panic!("floats"),
    }
}

fn planes(sample: &Sample) -> Vec<u8> {
    match sample.get(fields::MASKS) {
        Some(Field::Masks(masks)) => masks.to_planes(),
        other => panic!("{other:?}"),
    }
}

fn assert_boxes(sample: &Sample, expected: &Value) {
    let Some(Field::Boxes(found)) = sample.get(fields::BOXES) else { panic!("no boxes") };
    let expected = boxes(expected);
    assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((a - b).abs() < 2e-3, "{found:?} {expected:?}");
    }
}

/// How many bytes differ, and by how much at most.
fn difference(found: &[u8], expected: &[u8]) -> (usize, u8) {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).filter(|&d| d > 0);
    differences.fold((0, 0), |(count, most), d| (count + 1, most.max(d)))
}

/// Bytes may differ by one in at most this part of them: a rounding, not a formula.
fn assert_close(found: &[u8], expected: &[u8], part: f64, what: &str) {
    let (count, most) = difference(found, expected);
    assert!(
        most <= 1 && count as f64 <= part * expected.len() as f64,
        "{what}: {count} of {} differ, by up to {most}",
        found.len()
    );
}

/// Every eleventh float, as the script stores them.
fn assert_floats(sample: &Sample, expected: &Value, what: &str) {
    let found = sample.image().unwrap().to_f32();
    for (a, b) in found.iter().step_by(11).zip(numbers(expected)) {
        assert!((f64::from(*a) - b).abs() < 2e-5, "{what}: {a} {b}");
    }
}

#[test]
fn resizing() {
    let world = World::load();
    for entry in world.entries("resize") {
        let size = numbers(&entry["size"]);
        let resized = |mut sample: Sample, interpolation| {
            geometry::resize(&mut sample, size[0] as usize, size[1] as usize, interpolation).unwrap();
            sample
        };
        let bilinear = resized(world.sample(), Interpolation::Bilinear);
        assert_close(image_bytes(&bilinear), &bytes(&entry["bilinear"]), 0.02, "bilinear");
        // PIL itself differs from torchvision by one in a fifth of the bytes of one of these.
        assert_close(image_bytes(&bilinear), &bytes(&entry["pil"]), 0.21, "PIL");
        let bicubic = resized(world.sample(), Interpolation::Bicubic);
        assert_close(image_bytes(&bicubic), &bytes(&entry["bicubic"]), 0.02, "bicubic");
        assert_floats(&resized(world.float_sample(), Interpolation::Bilinear), &entry["float"], "floats");
        assert_eq!(planes(&bilinear), bytes(&entry["masks"]));
        assert_boxes(&bilinear, &entry["boxes"]);
    }
}

#[test]
fn flipping() {
    let world = World::load();
    for (name, flip) in
        [("horizontal", geometry::flip_horizontal as fn(&mut Sample) -> _), ("vertical", geometry::flip_vertical)]
    {
        let mut sample = world.sample();
        flip(&mut sample).unwrap();
        let expected = &world.0["flip"][name];
        assert_eq!(image_bytes(&sample), bytes(&expected["image"]));
        assert_eq!(planes(&sample), bytes(&expected["masks"]));
        assert_boxes(&sample, &expected["boxes"]);
    }
}

#[test]
fn cropping() {
    let world = World::load();
    for entry in world.entries("crop") {
        let window = numbers(&entry["window"]);
        let window = Window {
            top: window[0] as i64,
            left: window[1] as i64,
            height: window[2] as usize,
            width: window[3] as usize,
        };
        let mut sample = world.sample();
        // The third box has no mask; masks alone are compared, and boxes alone.
        sample.remove(fields::MASKS);
        geometry::crop(&mut sample, window, &[]).unwrap();
        assert_eq!(image_bytes(&sample), bytes(&entry["image"]));
        assert_boxes(&sample, &entry["boxes"]);
        let Some(Field::Masks(mut masks)) = world.sample().remove(fields::MASKS) else { panic!("no masks") };
        masks.crop(window.top, window.left, window.height, window.width);
        assert_eq!(masks.to_planes(), bytes(&entry["masks"]));
    }
}

#[test]
fn warping() {
    let world = World::load();
    for entry in world.entries("affine") {
        let pair = |name: &str| (numbers(&entry[name])[0], numbers(&entry[name])[1]);
        let number = |name: &str| entry[name].as_f64().unwrap();
        let affine = Affine::new(number("angle"), pair("translate"), number("scale"), pair("shear"));
        let image = world.sample().image().unwrap().clone();
        let warped = |interpolation, fill: &[f32]| {
            geometry::warp::warped(&image, &affine, (image.height, image.width), interpolation, fill)
        };
        let only = |image| Sample::new().with(fields::IMAGE, Field::Image(image));
        // A source exactly between two pixels may fall to either.
        let nearest = only(warped(Interpolation::Nearest, &[9.0]));
        let (count, _) = difference(image_bytes(&nearest), &bytes(&entry["nearest"]));
        assert!(count <= 9, "{count} bytes differ");
        let bilinear = only(warped(Interpolation::Bilinear, &[]));
        assert_close(image_bytes(&bilinear), &bytes(&entry["bilinear"]), 0.01, "bilinear");
        let Some(Field::Masks(mut masks)) = world.sample().remove(fields::MASKS) else { panic!("no masks") };
        let size = (masks.height, masks.width);
        geometry::warp::warp_masks(&mut masks, &affine, size);
        let (count, _) = difference(&masks.to_planes(), &bytes(&entry["masks"]));
        assert!(count <= 2, "{count} mask pixels differ");
        let mut sample = world.sample();
        sample.remove(fields::MASKS);
        geometry::warp(&mut sample, &affine, Interpolation::Bilinear, &[]).unwrap();
        let kept: Vec<Value> = entry["boxes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|b| numbers(b)[2] > numbers(b)[0] && numbers(b)[3] > numbers(b)[1])
            .cloned()
            .collect();
        assert_boxes(&sample, &Value::Array(kept));
    }
}

#[test]
fn colours() {
    let world = World::load();
    type Change = fn(&mut Image, f64);
    let changes: [(&str, Change); 4] = [
        ("brightness", color::adjust_brightness),
        ("contrast", color::adjust_contrast),
        ("saturation", color::adjust_saturation),
        ("hue", color::adjust_hue),
    ];
    for (name, change) in changes {
        for entry in world.0["color"][name].as_array().unwrap() {
            let factor = entry["factor"].as_f64().unwrap();
            let mut sample = world.sample();
            change(sample.image_mut().unwrap(), factor);
            assert_close(image_bytes(&sample), &bytes(&entry["bytes"]), 0.01, name);
            let mut sample = world.float_sample();
            change(sample.image_mut().unwrap(), factor);
            assert_floats(&sample, &entry["floats"], name);
        }
    }
    let mut sample = world.sample();
    color::grayscale(sample.image_mut().unwrap(), 1);
    assert_close(image_bytes(&sample), &bytes(&world.0["color"]["gray"]), 0.0, "gray");
}

#[test]
fn rotating() {
    let world = World::load();
    for entry in world.entries("rotate") {
        let (angle, expand) = (entry["angle"].as_f64().unwrap(), entry["expand"].as_bool().unwrap());
        let affine = Affine::new(-angle, (0.0, 0.0), 1.0, (0.0, 0.0));
        let sample = world.sample();
        let from = geometry::size(&sample).unwrap();
        let to = if expand { affine.expanded(from) } else { from };
        assert_eq!([to.0 as f64, to.1 as f64], numbers(&entry["size"])[..], "{angle}");
        let rotated = |interpolation, fill: &[f32]| {
            let mut sample = world.sample();
            geometry::warp_to(&mut sample, &affine, to, interpolation, fill).unwrap();
            sample
        };
        // A source exactly between two pixels may fall to either.
        let nearest = rotated(Interpolation::Nearest, &[9.0]);
        let (count, _) = difference(image_bytes(&nearest), &bytes(&entry["nearest"]));
        assert!(count <= 15, "{angle}: {count} bytes differ");
        let bilinear = rotated(Interpolation::Bilinear, &[]);
        assert_close(image_bytes(&bilinear), &bytes(&entry["bilinear"]), 0.01, "bilinear");
        let Some(Field::Masks(mut masks)) = world.sample().remove(fields::MASKS) else { panic!("no masks") };
        geometry::warp::warp_masks(&mut masks, &affine, to);
        let (count, _) = difference(&masks.to_planes(), &bytes(&entry["masks"]));
        assert!(count <= 2, "{angle}: {count} mask pixels differ");
        // Where the image grows, torchvision moves boxes by the part of a pixel by which the new size was rounded up.
        let Some(Field::Boxes(found)) = bilinear.get(fields::BOXES) else { panic!("no boxes") };
        let within = if expand { 1.0 } else { 2e-3 };
        let expected = boxes(&entry["boxes"]);
        let inside = expected.iter().filter(|b| b[2] > b[0] && b[3] > b[1]);
        for (a, b) in found.iter().flatten().zip(inside.flatten()) {
            assert!((a - b).abs() < within, "{angle}: {found:?} {expected:?}");
        }
    }
}

#[test]
fn blurring() {
    let world = World::load();
    for entry in world.entries("blur") {
        let kernel = numbers(&entry["kernel"]);
        let kernel = [kernel[0] as usize, kernel[1] as usize];
        let blur = |mut sample: Sample| {
            filter::gaussian_blur(sample.image_mut().unwrap(), kernel, entry["sigma"].as_f64().unwrap()).unwrap();
            sample
        };
        assert_close(image_bytes(&blur(world.sample())), &bytes(&entry["bytes"]), 0.01, "bytes");
        assert_floats(&blur(world.float_sample()), &entry["floats"], "floats");
    }
}

#[test]
fn padding() {
    let world = World::load();
    for entry in world.entries("pad") {
        let sides: Vec<usize> = numbers(&entry["padding"]).into_iter().map(|side| side as usize).collect();
        let [left, top, right, bottom] = match sides[..] {
            [all] => [all; 4],
            [x, y] => [x, y, x, y],
            [left, top, right, bottom] => [left, top, right, bottom],
            _ => panic!("{sides:?}"),
        };
        let mut sample = world.sample();
        let (height, width) = geometry::size(&sample).unwrap();
        let (height, width) = (height + top + bottom, width + left + right);
        let window = Window { top: -(top as i64), left: -(left as i64), height, width };
        geometry::crop(&mut sample, window, &[7.0]).unwrap();
        assert_eq!(image_bytes(&sample), bytes(&entry["image"]));
        assert_eq!(planes(&sample), bytes(&entry["masks"]));
        assert_boxes(&sample, &entry["boxes"]);
    }
}

#[test]
fn trivial_augment() {
    let world = World::load();
    for entry in world.entries("trivial") {
        let operation = Operation::ALL[entry["operation"].as_u64().unwrap() as usize];
        let (bin, sign) = (entry["bin"].as_u64().unwrap() as usize, entry["sign"].as_f64().unwrap());
        let what = format!("{operation:?} {bin} {sign}");
        assert_eq!(entry["name"], format!("{operation:?}"));
        let magnitude = operation.magnitude(bin, 31).unwrap_or(0.0);
        assert!((magnitude - entry["magnitude"].as_f64().unwrap()).abs() < 1e-6, "{what}: {magnitude}");
        assert!(sign > 0.0 || operation.is_signed());
        let apply = |mut sample: Sample| {
            operation.apply(&mut sample, sign * magnitude, Interpolation::Nearest, &[]).unwrap();
            sample
        };
        let applied = apply(world.sample());
        let found: Vec<u8> = image_bytes(&applied).iter().step_by(7).copied().collect();
        if what.starts_with("Shear") || what.starts_with("Rotate") || what.starts_with("Translate") {
            let (count, _) = difference(&found, &bytes(&entry["bytes"]));
            assert!(count <= 3, "{what}: {count} bytes differ");
        } else {
            assert_close(&found, &bytes(&entry["bytes"]), 0.01, &what);
        }
        if !entry["floats"].is_null() {
            assert_floats(&apply(world.float_sample()), &entry["floats"], &what);
        }
    }
}
