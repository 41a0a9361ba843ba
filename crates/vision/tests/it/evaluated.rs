//! Losses of an evaluation against torchvision 0.26: its model in training with norms as in evaluation, fed the same draws.
//! The numbers, and the script that makes them, are in `tests/parity/detection`.

use std::process::Command;

use pipe_native::generator;
use pipe_vision::nn::NormKind;
use pipe_vision::{BackboneOptions, Detector, GeneralizedRcnn, MaskOptions, MobileNetV3Kind, RcnnOptions, ResNetKind};
use tch::{Device, Tensor};

use crate::common::{doubles, expected, fill, images};
use crate::detection::{CLASSES, assert_losses, narrow_keypoints, small_images, targets};
use crate::one_stage;

/// The keys of `evaluated.py`.
const KEYS: [u64; 2] = [11, 2023];

/// torch's generator is one for the process, and other tests draw from it: this one runs in a process of its own.
#[test]
fn losses_are_those_of_training_and_change_nothing() {
    let test = "evaluated::alone";
    let alone = Command::new(std::env::current_exe().unwrap()).args(["--exact", test, "--ignored"]).output().unwrap();
    let text = String::from_utf8_lossy(&alone.stdout);
    assert!(alone.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&alone.stderr));
}

fn made(name: &str) -> Box<dyn Detector> {
    let (resnet18, wide) = (ResNetKind::ResNet18, MaskOptions { hidden: 32, ..MaskOptions::v1() });
    let scratch = BackboneOptions::scratch;
    let keypoints = name.starts_with("keypoint").then(narrow_keypoints);
    let (options, masks) = match name {
        "mask_v1_resnet18_frozen" => (RcnnOptions::v1(CLASSES, BackboneOptions::pretrained(resnet18)), Some(wide)),
        "mask_v2_resnet18" => {
            (RcnnOptions::v2(CLASSES, scratch(resnet18)), Some(MaskOptions { hidden: 32, ..MaskOptions::v2() }))
        }
        "faster_v1_resnet34_group" => {
            let norm = NormKind::Group { groups: 32 };
            (RcnnOptions::v1(CLASSES, BackboneOptions { norm, ..scratch(ResNetKind::ResNet34) }), None)
        }
        "faster_mobilenet_frozen" => {
            (RcnnOptions::v1(CLASSES, BackboneOptions::pretrained(MobileNetV3Kind::Large)), None)
        }
        "faster_v1_resnet50" => (RcnnOptions::v1(CLASSES, BackboneOptions::pretrained(ResNetKind::ResNet50)), None),
        "keypoint_resnet18_frozen" => (RcnnOptions::v1(CLASSES, BackboneOptions::pretrained(resnet18)), None),
        of_one_stage => return one_stage::made(of_one_stage),
    };
    let options = RcnnOptions { transform: small_images(), masks, keypoints, ..options };
    Box::new(GeneralizedRcnn::new(options, Device::Cpu).unwrap())
}

fn all(model: &dyn Detector) -> Vec<Tensor> {
    model.store().state_dict().values().map(Tensor::copy).collect()
}

#[test]
#[ignore = "run by losses_are_those_of_training_and_change_nothing"]
fn alone() {
    let expected = expected("detection/evaluated");
    // Samples are drawn by place among the proposals, of which torchvision's order must be kept to the last digit.
    pipe_native::numeric::set_deterministic(true, true).unwrap();
    for (name, want) in expected.as_object().unwrap() {
        let model = made(name);
        fill(model.store());
        let (before, drawn) = (all(&*model), generator::state(Device::Cpu).unwrap());
        let alone = model.forward_eval(&images()).unwrap();
        let (losses, found) = model.forward_with_losses(&images(), &targets(), &KEYS).unwrap();
        assert_losses(&losses.into_iter().collect::<Vec<_>>(), want);
        for (found, alone) in found.iter().zip(&alone) {
            assert_eq!((&found.boxes, &found.scores, &found.labels), (&alone.boxes, &alone.scores, &alone.labels));
        }
        assert!(all(&*model) == before, "{name}: a parameter or a statistic has changed");
        assert_eq!(generator::state(Device::Cpu).unwrap(), drawn, "{name}: the generator has moved");
        // What is drawn belongs to the stages, whatever the network: one of two stages and one of one, the quickest.
        if !["faster_mobilenet_frozen", "ssdlite320"].contains(&name.as_str()) {
            continue;
        }
        let other = model.forward_with_losses(&images(), &targets(), &[1, 2]).unwrap().0;
        let again = model.forward_with_losses(&images(), &targets(), &KEYS).unwrap().0;
        assert_losses(&again.into_iter().collect::<Vec<_>>(), want);
        if let Some(objectness) = other.get("loss_objectness") {
            assert_ne!(doubles(objectness)[0], want["loss_objectness"].as_f64().unwrap(), "{name}: others are drawn");
        } else {
            let names = other.keys().map(|key| (key.clone(), other[key].shallow_clone()));
            assert_losses(&names.collect::<Vec<_>>(), want);
        }
    }
}
