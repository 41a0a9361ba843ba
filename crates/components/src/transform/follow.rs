//! Boxes, masks, keypoints and per-pixel classes follow the image, whatever a transform draws.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::testing::build;
use pipe_core::{Among, Dataset};
use pipe_data::random::{Purpose, stream};
use pipe_data::{Field, Image, Masks, Sample, fields};

/// An image with up to four rectangles, one in each quarter, each with a color, a box, a mask, a keypoint inside, a label and pixels of
/// that class.
fn scene(height: usize, width: usize, corners: &[[usize; 2]]) -> Sample {
    let (half_h, half_w) = (height / 2, width / 2);
    let rectangles: Vec<[usize; 4]> = corners
        .iter()
        .enumerate()
        .map(|(i, [a, b])| {
            let (top, left) = (i / 2 * half_h, i % 2 * half_w);
            let (y, x) = (top + a % half_h, left + b % half_w);
            [y, x, (y + 1 + b % 5).min(top + half_h), (x + 1 + a % 5).min(left + half_w)]
        })
        .collect();
    let class = |y: usize, x: usize| {
        let inside = |r: &[usize; 4]| (r[0]..r[2]).contains(&y) && (r[1]..r[3]).contains(&x);
        rectangles.iter().position(inside).map_or(0, |i| i + 1)
    };
    let places = || (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
    let classes: Vec<u8> = places().map(|(y, x)| class(y, x) as u8).collect();
    let pixels = classes.iter().flat_map(|class| [10, 40 * class, 255 - 40 * class]).collect();
    let planes: Vec<Vec<u8>> = (1..=rectangles.len() as u8)
        .map(|class| classes.iter().map(|other| u8::from(*other == class)).collect())
        .collect();
    let boxes = rectangles.iter().map(|[y0, x0, y1, x1]| [*x0 as f32, *y0 as f32, *x1 as f32, *y1 as f32]).collect();
    let keypoints =
        rectangles.iter().map(|[y, x, ..]| vec![[*x as f32 + 0.5, *y as f32 + 0.5, 2.0], [0.0; 3]]).collect();
    let areas = rectangles.iter().map(|[y0, x0, y1, x1]| ((y1 - y0) * (x1 - x0)) as f32).collect();
    Sample::new()
        .with(fields::IMAGE, Field::Image(Image::from_u8(height, width, 3, pixels)))
        .with(fields::BOXES, Field::Boxes(boxes))
        .with(fields::LABELS, Field::Integers((1..=rectangles.len() as i64).collect()))
        .with(fields::AREA, Field::Numbers(areas))
        .with(fields::MASKS, Field::Masks(Masks::from_bitmaps(height, width, planes.iter().map(Vec::as_slice))))
        .with(fields::KEYPOINTS, Field::Keypoints(keypoints))
        .with(fields::SEGMENTATION, Field::Segmentation { height, width, classes })
        .with(fields::IMAGE_ID, Field::Integer(7))
}

/// Scenes of several sizes.
struct Scenes(Vec<Sample>);

impl Dataset for Scenes {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> anyhow::Result<Sample> {
        Ok(self.0[index].clone())
    }
}

/// What must hold of a sample that was a scene, or several.
fn assert_follows(sample: &Sample) {
    let image = sample.image().unwrap();
    let (height, width) = (image.height, image.width);
    let Some(Field::Masks(masks)) = sample.get(fields::MASKS) else { panic!("no masks") };
    let Some(Field::Boxes(boxes)) = sample.get(fields::BOXES) else { panic!("no boxes") };
    let Some(Field::Keypoints(keypoints)) = sample.get(fields::KEYPOINTS) else { panic!("no keypoints") };
    let Some(Field::Integers(labels)) = sample.get(fields::LABELS) else { panic!("no labels") };
    let Some(Field::Segmentation { height: h, width: w, classes }) = sample.get(fields::SEGMENTATION) else { panic!() };
    sample.check().unwrap();
    assert_eq!([masks.height, masks.width, *h, *w], [height, width, height, width]);
    assert_eq!([masks.instances.len(), keypoints.len(), labels.len()], [boxes.len(); 3]);
    for (((mask, b), points), label) in masks.instances.iter().zip(boxes).zip(keypoints).zip(labels) {
        let mask = mask.trimmed();
        assert!(0.0 <= b[0] && b[0] <= b[2] && b[2] <= width as f32 && 0.0 <= b[1] && b[1] <= b[3]);
        assert!(b[3] <= height as f32);
        for (y, x) in (0..mask.height).flat_map(|y| (0..mask.width).map(move |x| (y, x))) {
            let (y, x) = (y + mask.top, x + mask.left);
            if mask.at(y, x) == 1 {
                assert_eq!(i64::from(classes[y * width + x]), *label, "pixel {x}, {y} of the mask of class {label}");
                // A pixel belongs to the box if its middle does, to a rounding.
                let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
                let inside = b[0] - 0.51 <= x && x <= b[2] + 0.51 && b[1] - 0.51 <= y && y <= b[3] + 0.51;
                assert!(inside, "{x}, {y} and {b:?}");
            }
        }
        assert_eq!(points[1], [0.0; 3], "a keypoint that is not there stays so");
        let [x, y, seen] = points[0];
        if seen > 0.0 {
            assert!(b[0] - 0.01 <= x && x <= b[2] + 0.01 && b[1] - 0.01 <= y && y <= b[3] + 0.01, "{points:?} {b:?}");
        }
    }
}

/// Pixels that show an object have its color, where colors were only moved.
fn assert_colors(sample: &Sample) {
    let image = sample.image().unwrap();
    let Some(Field::Segmentation { classes, .. }) = sample.get(fields::SEGMENTATION) else { panic!() };
    let pipe_data::Pixels::U8(bytes) = &image.pixels else { panic!("floats") };
    for (pixel, class) in bytes.chunks_exact(3).zip(classes) {
        let wanted = if *class == 255 { [0, 0, 0] } else { [10, 40 * class, 255 - 40 * class] };
        assert_eq!(pixel, wanted);
    }
}

fn scenes() -> impl Strategy<Value = Sample> {
    let corners = proptest::collection::vec([0usize..20, 0usize..20], 0..5);
    (8usize..30, 8usize..30, corners).prop_map(|(height, width, corners)| scene(height, width, &corners))
}

fn moving() -> Vec<(&'static str, Value)> {
    vec![
        ("pad", json!({ "padding": [3, 0, 1, 7] })),
        ("random_rotation", json!({ "degrees": [-180, 180] })),
        ("random_rotation", json!({ "degrees": [-180, 180], "expand": true })),
        ("random_rotation", json!({ "degrees": [90, 90], "expand": true })),
        (
            "choice",
            json!({ "transforms": [
            { "type": "random_horizontal_flip", "p": 1.0 }, { "type": "pad", "padding": [2] }, { "type": "center_crop", "size": 9 },
        ] }),
        ),
        (
            "random_apply",
            json!({ "transforms": [
            { "type": "random_rotation", "degrees": [0, 50] }, { "type": "random_vertical_flip", "p": 1.0 },
        ] }),
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn all_that_moves(scene in scenes(), index in 0u64..1000) {
        for (name, config) in moving() {
            let moved = build(name, config).apply(scene.clone(), &mut stream(1, Purpose::Sample, 0, index)).unwrap();
            assert_follows(&moved);
            assert_colors(&moved);
        }
    }

    #[test]
    fn trivial_augment(scene in scenes(), index in 0u64..1000) {
        let transform = build("trivial_augment_wide", json!({}));
        assert_follows(&transform.apply(scene, &mut stream(1, Purpose::Sample, 0, index)).unwrap());
    }

    #[test]
    fn mosaics(scenes in proptest::collection::vec(scenes(), 1..6), index in 0u64..1000, size in [4u64..60, 4u64..60]) {
        let mosaic = build("mosaic", json!({ "size": size, "fill": [0], "close_after": 3 }));
        let (first, data) = (scenes[0].clone(), Scenes(scenes));
        let make = |epoch: u64| {
            let among = Among { dataset: &data, epoch };
            mosaic.apply_among(first.clone(), among, &mut stream(1, Purpose::Sample, epoch, index)).unwrap()
        };
        for epoch in 0..3 {
            let made = make(epoch);
            let image = made.image().unwrap();
            prop_assert_eq!([image.height as u64, image.width as u64], size);
            assert_follows(&made);
            prop_assert_eq!(made.get(fields::IMAGE_ID), Some(&Field::Integer(7)));
            let objects = |sample: &Sample| sample.instances().unwrap_or(0);
            let most = data.0.iter().map(objects).max().unwrap_or(0);
            let extent = |objects| pipe_data::Extent { height: 9, width: 9, objects };
            let foretold = mosaic.largest_among(extent(objects(&first)), extent(most));
            prop_assert!(objects(&made) <= foretold.objects && image.height <= foretold.height);
            prop_assert_eq!(&make(epoch), &made);
        }
        prop_assert_eq!(make(3), first.clone());
        prop_assert_eq!(make(9), first.clone());
    }
}

#[test]
fn a_mosaic_shows_four_images_around_its_point() {
    let gray = |value: u8| {
        Sample::new()
            .with(fields::IMAGE, Field::Image(Image::from_u8(4, 4, 1, vec![value; 16])))
            .with(fields::BOXES, Field::Boxes(vec![[0.0, 0.0, 4.0, 4.0]]))
    };
    let data = Scenes(vec![gray(200)]);
    let mosaic = build("mosaic", json!({ "size": [8, 16], "center_range": [0.5, 0.5], "fill": [9] }));
    let among = Among { dataset: &data, epoch: 0 };
    let made = mosaic.apply_among(gray(100), among, &mut stream(1, Purpose::Sample, 0, 0)).unwrap();
    let pipe_data::Pixels::U8(bytes) = &made.image().unwrap().pixels else { panic!("floats") };
    // Half of 8 × 16 holds images of 4 × 4 around row 4, column 8.
    let row = |first: u8| [&[9u8; 4][..], &[first; 4], &[200; 4], &[9; 4]].concat();
    assert_eq!(bytes[..16], row(100));
    assert_eq!(bytes[7 * 16..], row(200));
    let expected = [[4.0, 0.0, 8.0, 4.0], [8.0, 0.0, 12.0, 4.0], [4.0, 4.0, 8.0, 8.0], [8.0, 4.0, 12.0, 8.0]];
    assert_eq!(super::testing::boxes(&made), expected);
    let error = mosaic.apply(gray(1), &mut stream(1, Purpose::Sample, 0, 0)).unwrap_err().to_string();
    assert!(error.contains("works in a loader only"), "{error}");
    let labelled = Scenes(vec![gray(1).with(fields::LABEL, Field::Integer(1))]);
    let among = Among { dataset: &labelled, epoch: 0 };
    let error = mosaic.apply_among(gray(1), among, &mut stream(1, Purpose::Sample, 0, 0)).unwrap_err().to_string();
    assert!(error.contains("one label for the whole image"), "{error}");
}
