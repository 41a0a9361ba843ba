//! What the tests against torchvision share: the numbers of `tests/parity`, weights and images from an integer hash. The
//! program's own tests take it too.

use std::path::{Path, PathBuf};

use pipe_vision::Detections;
use pipe_vision::nn::ParameterStore;
use serde_json::Value;
use tch::{Kind, Tensor, no_grad};

/// A file of `tests/parity`.
pub fn parity(name: &str) -> PathBuf {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("tests/parity"));
    folders.find(|folder| folder.is_dir()).expect("tests/parity").join(name)
}

/// The numbers of torchvision.
pub fn expected(name: &str) -> Value {
    let text = std::fs::read_to_string(parity(&format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The hash of `make.py`: numbers from -1 to 1.
pub fn noise(seed: u64, count: usize) -> Tensor {
    let value = |index: u64| {
        let mut mixed = index.wrapping_add(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^= mixed >> 29;
        mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 40) as f32 / 8_388_608.0 - 1.0
    };
    Tensor::from_slice(&(0..count as u64).map(value).collect::<Vec<_>>())
}

/// Weights from the hash of their names.
pub fn fill(store: &ParameterStore) {
    for (name, mut tensor) in store.state_dict() {
        if tensor.kind() != Kind::Float {
            continue;
        }
        let mut values = noise(crc32fast::hash(name.as_bytes()).into(), tensor.numel()).reshape(tensor.size());
        if tensor.dim() > 1 {
            let fan = tensor.get(0).numel() as f64;
            values *= f64::from((6.0 / fan).sqrt() as f32);
            if ["rpn.head", "predictor", "cls_logits"].iter().any(|part| name.contains(part)) {
                values *= 0.1;
            }
        } else if name.ends_with("running_var") || name.ends_with("weight") {
            values = values * 0.1 + 0.7;
        } else {
            values *= 0.1;
        }
        no_grad(|| tensor.copy_(&values));
    }
}

/// Two images of different sizes, floats from 0 to 1.
pub fn images() -> Vec<Tensor> {
    let image = |seed, height, width| {
        let small: Tensor = noise(seed, 192).reshape([1, 3, 8, 8]) * 0.5 + 0.5;
        small.upsample_nearest2d([height, width], None, None).squeeze_dim(0)
    };
    vec![image(1, 96, 128), image(2, 120, 90)]
}

/// The numbers of a list.
pub fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The numbers of a tensor.
pub fn doubles(tensor: &Tensor) -> Vec<f64> {
    tensor.detach().to_kind(Kind::Double).flatten(0, -1).try_into().unwrap()
}

/// Fails unless every number is as near as `absolute` and `relative` say.
#[track_caller]
pub fn assert_near(what: &str, have: &[f64], want: &[f64], absolute: f64, relative: f64) {
    assert_eq!(have.len(), want.len(), "{what}: {have:?}, torchvision {want:?}");
    for (have, want) in have.iter().zip(want) {
        assert!((have - want).abs() <= absolute + relative * want.abs(), "{what}: {have}, torchvision {want}");
    }
}

/// Fails unless these are the detections of torchvision.
pub fn assert_detections(found: &[Detections], want: &Value) {
    let want = want.as_array().unwrap();
    assert!(want.iter().any(|image| { image["scores"].as_array().is_some_and(|scores| scores.len() > 3) }));
    for (found, want) in found.iter().zip(want) {
        assert_near("labels", &doubles(&found.labels), &floats(&want["labels"]), 0.0, 0.0);
        assert_near("boxes", &doubles(&found.boxes), &floats(&want["boxes"]), 0.01, 0.0);
        assert_near("scores", &doubles(&found.scores), &floats(&want["scores"]), 1e-4, 0.0);
        if let Some(masks) = &found.masks {
            let sums = masks.sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Double);
            assert_near("sums of masks", &doubles(&sums), &floats(&want["mask_sums"]), 0.01, 1e-3);
            let rows = masks.slice(0, 0, 2, 1).select(1, 0).slice(1, None, None, 16).slice(2, None, None, 16);
            assert_near("masks", &doubles(&rows), &floats(&want["mask_rows"]), 1e-3, 0.0);
        }
        if let Some((keypoints, scores)) = found.keypoints.as_ref().zip(found.keypoints_scores.as_ref()) {
            assert_near("keypoints", &doubles(keypoints), &floats(&want["keypoints"]), 0.01, 0.0);
            assert_near("scores of keypoints", &doubles(scores), &floats(&want["keypoints_scores"]), 1e-4, 1e-4);
        }
    }
}
