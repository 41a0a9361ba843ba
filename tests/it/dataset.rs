//! Samples of COCO beside those of torchvision's references (`tests/parity/dataset`), on real images where they are.

use pipe_components::dataset::coco::{self, CocoConfig};
use pipe_core::Dataset;
use pipe_data::{Field, Pixels, fields};
use pipe_data::{geometry, geometry::Interpolation};
use pipe_test_support::{shared, skip};
use serde_json::{Value, from_value, json};

#[test]
fn real_pictures_give_the_samples_of_torchvision() {
    let Some(root) = shared("data/coco_sample") else {
        return skip!("there is no shared/data/coco_sample beside the repository");
    };
    let config: CocoConfig = from_value(json!({ "root": root, "split": "val2017" })).unwrap();
    let set = coco::open(&config, &root).unwrap();
    let text = std::fs::read_to_string("tests/parity/dataset/expected.json").unwrap();
    let expected: Vec<Value> = serde_json::from_str(&text).unwrap();
    for entry in expected {
        let index = set
            .extension()
            .unwrap()
            .downcast_ref::<std::sync::Arc<pipe_coco::index::Index>>()
            .unwrap()
            .position(entry["image_id"].as_i64().unwrap())
            .unwrap();
        let mut sample = set.get(index).unwrap();
        assert_eq!(json!(channel_sums(sample.image().unwrap())), entry["pixels"]);
        geometry::resize(&mut sample, 512, 512, Interpolation::Bilinear).unwrap();
        for (sum, other) in channel_sums(sample.image().unwrap()).into_iter().zip(entry["resized"].as_array().unwrap())
        {
            // A few bytes may be rounded otherwise.
            assert!(sum.abs_diff(other.as_u64().unwrap()) < 512 * 512 / 50, "{sum} {other}");
        }
        let Some(Field::Integers(labels)) = sample.get(fields::LABELS) else { panic!("no labels") };
        assert_eq!(json!(labels), entry["labels"]);
        let Some(Field::Masks(masks)) = sample.get(fields::MASKS) else { panic!("no masks") };
        let planes = masks.to_planes();
        let ones =
            |plane: &[u8]| plane.iter().enumerate().filter(|(_, v)| **v == 1).map(|(i, _)| i).collect::<Vec<_>>();
        let places: Vec<Vec<usize>> = planes.chunks(512 * 512).map(ones).collect();
        assert_eq!(json!(places.iter().map(Vec::len).collect::<Vec<_>>()), entry["mask_pixels"]);
        assert_eq!(json!(places.iter().map(|p| p.iter().sum::<usize>()).collect::<Vec<_>>()), entry["mask_places"]);
    }
}

fn channel_sums(image: &pipe_data::Image) -> Vec<u64> {
    let Pixels::U8(bytes) = &image.pixels else { panic!("floats") };
    (0..3).map(|c| bytes.iter().skip(c).step_by(3).map(|&v| u64::from(v)).sum()).collect()
}
