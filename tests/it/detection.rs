//! A detector by the program itself, against torchvision 0.26. The numbers, and the script that makes them, are in
//! `tests/parity/detection`; the crate `pipe-vision` tests the model.

use std::collections::BTreeMap;
use std::process::Command;

use pipe_vision::{
    BackboneOptions, Detections, Detector, GeneralizedRcnn, MaskOptions, RcnnOptions, ResNetKind, weights,
};
use serde_json::Value;
use tch::{Device, Kind};

use crate::torchvision::{assert_detections, assert_near, doubles, expected, fill, floats, images};

const PIPELINE: &str = r#"
[pipeline]
name = "predict"
device = "cpu"

[model.net]
type = "mask_rcnn"
backbone = "resnet18"
norm = "frozen"
num_classes = 4
min_size = 128
max_size = 160
rpn_pre_nms_top_n_test = 100
rpn_post_nms_top_n_test = 50
box_detections_per_img = 8
mask_hidden = 32
"#;

/// By the program itself, from files to files: images as PNG, weights as a `.safetensors`.
#[test]
fn pipe_predict_finds_what_torchvision_finds() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let options = RcnnOptions::v1(4, BackboneOptions::pretrained(ResNetKind::ResNet18));
    let masks = Some(MaskOptions { hidden: 32, ..MaskOptions::v1() });
    let model = GeneralizedRcnn::new(RcnnOptions { masks, ..options }, Device::Cpu).unwrap();
    fill(model.store());
    weights::write(&at("net.safetensors"), &model.store().state_dict(), &BTreeMap::new()).unwrap();
    std::fs::write(at("predict.toml"), PIPELINE).unwrap();
    for (number, image) in (1..).zip(images()) {
        let png = pipe_native::image::encode_png(&(image * 255.0).round().to_kind(Kind::Uint8), 1).unwrap();
        std::fs::write(at(&format!("{number}.png")), png).unwrap();
    }
    let arguments = ["--weights", "net.safetensors", "--out", "out.json", "--raw", "raw", "--images", "1.png", "2.png"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
    let done = command.args(["predict", "predict.toml"]).args(arguments).current_dir(folder.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let raw = |number: usize| {
        let mut tensors = weights::read(&at(&format!("raw/{number}.safetensors"))).unwrap().tensors;
        let mut take = |name: &str| tensors.shift_remove(name).unwrap();
        let masks = Some(take("masks"));
        Detections { masks, ..Detections::new(take("boxes"), take("labels"), take("scores")) }
    };
    let found = [raw(1), raw(2)];
    assert_detections(&found, &expected("detection/predicted"));
    // The results file says the same, box for box.
    let results: Vec<Value> = serde_json::from_slice(&std::fs::read(at("out.json")).unwrap()).unwrap();
    assert_eq!(results.len(), found.iter().map(|one| one.scores.numel()).sum::<usize>());
    let [x, y, w, h] = floats(&results[0]["bbox"])[..] else { panic!("{}", results[0]) };
    assert_near("box", &[x, y, x + w, y + h], &doubles(&found[0].boxes)[..4], 1e-3, 0.0);
    let one = doubles(&found[0].masks.as_ref().unwrap().get(0).gt(0.5).sum(Kind::Double));
    let counts = results[0]["segmentation"]["counts"].as_str().unwrap();
    let mask = pipe_coco::mask::Rle::from_compressed(96, 128, counts.as_bytes()).unwrap();
    assert_eq!(mask.area() as f64, one[0]);
}
