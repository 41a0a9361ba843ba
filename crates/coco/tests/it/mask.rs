//! Masks against those that pycocotools made.

use pipe_coco::{mask::Rle, mask::iou_matrix};
use serde_json::Value;

fn cases() -> Value {
    serde_json::from_str(include_str!("../../../../tests/parity/cocomask/cases.json")).unwrap()
}

fn size(case: &Value) -> (u32, u32) {
    let side = |i: usize| case["size"][i].as_u64().unwrap() as u32;
    (side(0), side(1))
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn polygons_are_drawn_as_by_pycocotools() {
    for (i, case) in cases()["polygons"].as_array().unwrap().iter().enumerate() {
        let (height, width) = size(case);
        let polygons: Vec<Vec<f64>> = case["polygons"].as_array().unwrap().iter().map(numbers).collect();
        let parts: Vec<Rle> = polygons.iter().map(|p| Rle::from_polygon(p, height, width).unwrap()).collect();
        for (part, expected) in parts.iter().zip(case["parts"].as_array().unwrap()) {
            let expected = expected.as_str().unwrap();
            assert_eq!(part.to_compressed(), expected, "case {i}");
            assert_eq!(&Rle::from_compressed(height, width, expected.as_bytes()).unwrap(), part, "case {i}");
        }
        let union = Rle::from_polygons(polygons.iter().map(Vec::as_slice), height, width).unwrap();
        assert_eq!(union.to_compressed(), case["union"].as_str().unwrap(), "case {i}");
        assert_eq!(
            Rle::intersection(&parts).unwrap().to_compressed(),
            case["intersection"].as_str().unwrap(),
            "case {i}"
        );
        assert_eq!(union.area(), case["area"].as_u64().unwrap(), "case {i}");
        assert_eq!(union.bbox().to_vec(), numbers(&case["bbox"]), "case {i}");

        let pixels = union.decode();
        let rows: Vec<f64> = pixels.chunks(width as usize).map(|row| row.iter().map(|&p| f64::from(p)).sum()).collect();
        assert_eq!(rows, numbers(&case["rows"]), "case {i}");
        assert_eq!(Rle::encode(&pixels, height, width).unwrap(), union, "case {i}");

        let truths: Vec<Rle> = std::iter::once(union).chain(parts.iter().cloned()).collect();
        for (crowd, key) in [(false, "iou"), (true, "iou_crowd")] {
            let ious = iou_matrix(&parts, &truths, &vec![crowd; truths.len()], 0.0).unwrap();
            assert_eq!(ious, numbers(&case[key]), "case {i}");
        }
    }
}

#[test]
fn boxes_are_drawn_as_by_pycocotools() {
    for case in cases()["boxes"].as_array().unwrap() {
        let (height, width) = size(case);
        let bbox: [f64; 4] = numbers(&case["box"]).try_into().unwrap();
        let mask = Rle::from_bbox(bbox, height, width).unwrap();
        assert_eq!(mask.to_compressed(), case["mask"].as_str().unwrap(), "{bbox:?}");
    }
}
