//! Helpers shared by the tests of the transforms.

use std::sync::Arc;

use serde_json::Value;

use pipe_core::Transform;
use pipe_core::{Kind, PortKind, Problems, builtin};
use pipe_data::random::{Purpose, stream};
use pipe_data::{Field, Image, Masks, Sample, fields};

/// A sample of 6 by 8 pixels with two instances: one left above, one right below.
pub fn sample() -> Sample {
    let (height, width) = (6, 8);
    let pixels = (0..height * width * 3).map(|i| (i * 5 % 256) as u8).collect();
    let boxes = vec![[0.0, 0.0, 3.0, 2.0], [4.0, 3.0, 8.0, 6.0]];
    let planes: Vec<Vec<u8>> = boxes
        .iter()
        .map(|b: &[f32; 4]| {
            let inside = |y: usize, x: usize| (b[1]..b[3]).contains(&(y as f32)) && (b[0]..b[2]).contains(&(x as f32));
            (0..height * width).map(|i| u8::from(inside(i / width, i % width))).collect()
        })
        .collect();
    Sample::new()
        .with(fields::IMAGE, Field::Image(Image::from_u8(height, width, 3, pixels)))
        .with(fields::BOXES, Field::Boxes(boxes))
        .with(fields::LABELS, Field::Integers(vec![1, 2]))
        .with(fields::AREA, Field::Numbers(vec![6.0, 12.0]))
        .with(fields::MASKS, Field::Masks(Masks::from_bitmaps(height, width, planes.iter().map(Vec::as_slice))))
        .with(fields::KEYPOINTS, Field::Keypoints(vec![vec![[1.0, 1.0, 2.0]], vec![[5.0, 4.0, 2.0]]]))
        .with(fields::ORIGINAL_SIZE, Field::Size([height, width]))
}

/// The test sample after the transform, with the random stream of `index`.
pub fn transformed(name: &str, config: Value, index: u64) -> Sample {
    apply(name, config, sample(), index)
}

/// The sample after the transform, with the random stream of `index`.
pub fn apply(name: &str, config: Value, sample: Sample, index: u64) -> Sample {
    build(name, config).apply(sample, &mut stream(1, Purpose::Sample, 0, index)).unwrap()
}

/// Reads and builds a transform.
pub fn build(name: &str, config: Value) -> Arc<dyn Transform> {
    let instance = crate::dataset::testing::build(Kind::Transform, name, config).unwrap();
    <dyn Transform>::from_instance(&instance).unwrap()
}

/// What the checks of a configuration find, as `path: message`.
pub fn problems(name: &str, config: Value) -> Vec<String> {
    let component = builtin().get(Kind::Transform, name).unwrap().parse(config).unwrap();
    let mut problems = Problems::default();
    component.check(&mut problems);
    problems.found.iter().map(|p| format!("{}: {}", p.path.join("."), p.message)).collect()
}

/// The boxes of a sample.
pub fn boxes(sample: &Sample) -> Vec<[f32; 4]> {
    match sample.get(fields::BOXES) {
        Some(Field::Boxes(boxes)) => boxes.clone(),
        other => panic!("{other:?}"),
    }
}

/// Checks that every mask fills its box exactly, which the test sample's do, and that all fields agree in number.
pub fn assert_consistent(sample: &Sample) {
    let image = sample.image().unwrap();
    let boxes = boxes(sample);
    let Some(Field::Masks(masks)) = sample.get(fields::MASKS) else { panic!("no masks") };
    assert_eq!((masks.height, masks.width), (image.height, image.width));
    for (b, mask) in boxes.iter().zip(&masks.instances) {
        let mask = mask.trimmed();
        let (left, top) = (mask.left as f32, mask.top as f32);
        assert_eq!(*b, [left, top, left + mask.width as f32, top + mask.height as f32]);
    }
    let counts: Vec<usize> = sample.iter().filter_map(|(_, field)| field.instances()).collect();
    assert!(counts.iter().all(|&count| count == boxes.len()), "{counts:?}");
    let Some(Field::Numbers(areas)) = sample.get(fields::AREA) else { panic!("no areas") };
    for (area, mask) in areas.iter().zip(&masks.instances) {
        assert!((area - mask.area() as f32).abs() < 1e-3, "{area} {}", mask.area());
    }
}
