//! The detectors against torchvision 0.26: names, initial values, losses, gradients, detections.
//! The numbers, and the script that makes them, are in `tests/parity/detection`.

use std::collections::BTreeMap;
use std::process::Command;

use pipe_vision::checkpoint::Classes;
use pipe_vision::nn::{NormKind, ParameterStore};
use pipe_vision::terms::{self, Part, Terms};
use pipe_vision::weights;
use pipe_vision::{
    BackboneOptions, Detector, GeneralizedRcnn, KeypointOptions, MaskOptions, MobileNetV3Kind, RcnnOptions, ResNet,
    ResNetKind, Target, TransformOptions,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::common::{assert_detections, assert_near, doubles, expected, fill, floats, images, noise, parity};

pub const CLASSES: i64 = 4;
pub const KEYPOINTS: i64 = 5;

fn target(boxes: &[[f32; 4]], labels: &[i64], height: i64, width: i64) -> Target {
    let masks = Tensor::zeros([boxes.len() as i64, height, width], (Kind::Uint8, Device::Cpu));
    for (index, corners) in boxes.iter().enumerate() {
        let [x1, y1, x2, y2] = corners.map(|v| v as i64);
        let (middle_x, middle_y) = ((x1 + x2) / 2, (y1 + y2) / 2);
        let mask = masks.get(index as i64);
        let _ = mask.narrow(0, y1, y2 - y1).narrow(1, x1, middle_x - x1).fill_(1);
        let _ = mask.narrow(0, middle_y, y2 - middle_y).narrow(1, x1, x2 - x1).fill_(1);
    }
    let points = boxes.iter().flat_map(|&[x1, y1, x2, y2]| {
        let middle = [(x1 + x2) / 2.0, (y1 + y2) / 2.0, 2.0];
        [[x1, y1, 2.0], [x2, y2, 1.0], middle, [x1 - 6.0, y1, 2.0], [x1 + 3.0, y1 + 4.0, 0.0]].concat()
    });
    let points = Tensor::from_slice(&points.collect::<Vec<_>>()).view([boxes.len() as i64, KEYPOINTS, 3]);
    let boxes = Tensor::from_slice(&boxes.concat()).view([boxes.len() as i64, 4]);
    Target { boxes, labels: Tensor::from_slice(labels), masks: Some(masks), keypoints: Some(points) }
}

pub fn targets() -> Vec<Target> {
    let boxes = [[8.0, 10.0, 70.0, 80.0], [60.0, 20.0, 120.0, 60.0], [30.0, 40.0, 50.0, 62.0]];
    vec![target(&boxes, &[1, 2, 3], 96, 128), target(&[[10.0, 12.0, 80.0, 100.0]], &[2], 120, 90)]
}

fn with_an_empty_image() -> Vec<Target> {
    let mut targets = targets();
    targets[1] = target(&[], &[], 120, 90);
    targets
}

/// Images of the size that `make.py` has.
pub fn small_images() -> TransformOptions {
    TransformOptions { min_size: vec![128], max_size: 160, ..TransformOptions::default() }
}

fn small(options: RcnnOptions) -> RcnnOptions {
    RcnnOptions { transform: small_images(), ..options }
}

/// Everything sampled, few proposals: as `ALL` and `TEST` of `make.py`.
fn undrawn(options: RcnnOptions) -> RcnnOptions {
    RcnnOptions {
        rpn_batch_size_per_image: 100_000,
        box_batch_size_per_image: 100_000,
        box_positive_fraction: 0.5,
        rpn_pre_nms_top_n_train: 60,
        rpn_post_nms_top_n_train: 40,
        rpn_pre_nms_top_n_test: 100,
        rpn_post_nms_top_n_test: 50,
        box_detections_per_img: 8,
        ..small(options)
    }
}

pub fn losses(model: &dyn Detector, targets: &[Target]) -> Vec<(String, Tensor)> {
    terms::listen();
    let losses: Vec<_> = model.forward_train(&images(), targets).unwrap().into_iter().collect();
    assert_terms(&losses, &terms::heard(), targets);
    losses
}

/// A Mask R-CNN with a mask head of 32 hidden channels.
fn mask(options: RcnnOptions, masks: MaskOptions) -> GeneralizedRcnn {
    let masks = Some(MaskOptions { hidden: 32, ..masks });
    GeneralizedRcnn::new(RcnnOptions { masks, ..undrawn(options) }, Device::Cpu).unwrap()
}

fn mask_v1() -> GeneralizedRcnn {
    let options = RcnnOptions::v1(CLASSES, BackboneOptions::pretrained(ResNetKind::ResNet18));
    mask(options, MaskOptions::v1())
}

/// A Keypoint R-CNN with a keypoint head of 32 hidden channels.
fn keypoint() -> GeneralizedRcnn {
    let options = RcnnOptions::v1(CLASSES, BackboneOptions::pretrained(ResNetKind::ResNet18));
    let keypoints = Some(narrow_keypoints());
    GeneralizedRcnn::new(RcnnOptions { keypoints, ..undrawn(options) }, Device::Cpu).unwrap()
}

pub fn narrow_keypoints() -> KeypointOptions {
    KeypointOptions { count: KEYPOINTS, layers: vec![32; 8], ..KeypointOptions::default() }
}

fn faster(backbone: BackboneOptions) -> GeneralizedRcnn {
    GeneralizedRcnn::new(undrawn(RcnnOptions::v1(CLASSES, backbone)), Device::Cpu).unwrap()
}

/// Each loss is the sum of its terms, whose places there are.
#[track_caller]
fn assert_terms(losses: &[(String, Tensor)], heard: &[Terms], targets: &[Target]) {
    assert_eq!(heard.len(), losses.len());
    for (name, loss) in losses {
        let terms = heard.iter().find(|terms| terms.loss == *name).unwrap();
        let sum: f64 = terms.parts.iter().map(|part| part.value).sum();
        assert_near(name, &[sum], &doubles(loss), 1e-7, 1e-5);
        for Part { place, .. } in &terms.parts {
            let objects = targets[place.image].boxes.size()[0] as usize;
            assert!(place.object.is_none_or(|object| object < objects), "{name}: {place:?} of {objects}");
        }
        // But for objects that a detector's anchors miss, each adds to something.
        let with_object = terms.parts.iter().filter(|part| part.place.object.is_some()).count();
        assert!(with_object > 0 || targets.iter().all(|target| target.boxes.size()[0] == 0), "{name}");
    }
}

#[track_caller]
pub fn assert_losses(losses: &[(String, Tensor)], want: &Value) {
    let want = want.as_object().unwrap();
    assert_eq!(losses.iter().map(|(name, _)| name).collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (name, loss) in losses {
        // Where it is stored, with what torchvision's own differ by with other kernels.
        let (want, off) = match want[name].as_array() {
            Some(both) => (both[0].as_f64().unwrap(), both[1].as_f64().unwrap()),
            None => (want[name].as_f64().unwrap(), 0.0),
        };
        assert_near(name, &doubles(loss), &[want], 1e-7 + 4.0 * off, 1e-4);
    }
}

/// The norm of each parameter's gradient and its product with a fixed direction.
#[track_caller]
fn assert_gradients(store: &ParameterStore, losses: &[(String, Tensor)], want: &Value) {
    losses.iter().map(|(_, loss)| loss).fold(Tensor::from(0f32), |sum, loss| sum + loss).backward();
    let want = want.as_object().unwrap();
    let trainable = store.trainable();
    assert_eq!(trainable.len(), want.len());
    for (name, parameter) in trainable {
        let gradient = parameter.grad().to_kind(Kind::Double).flatten(0, -1);
        let along = (&gradient * noise(7, gradient.numel()).to_kind(Kind::Double)).sum(Kind::Double);
        let want = floats(&want[&name]);
        // What a product of random signs can be off by is in proportion to the norm.
        assert_near(
            &name,
            &[f64::try_from(gradient.norm()).unwrap(), f64::try_from(along).unwrap()],
            &want[..2],
            // The gradient of a bias before a softmax is rounding alone; and what torchvision's own differ by with other kernels.
            want[0] * 1e-3 + 4.0 * want[2] + 1e-7,
            0.0,
        );
    }
}

#[track_caller]
pub fn assert_case(name: &str, model: &dyn Detector) {
    let expected = expected(&format!("detection/{name}"));
    let names: Vec<_> = expected["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.is_empty() || model.store().names() == names, "names differ: {:#?}", model.store().names());
    fill(model.store());
    assert_detections(&model.forward_eval(&images()).unwrap(), &expected["detections"]);
    let found = losses(model, &targets());
    assert_losses(&found, &expected["losses"]);
    assert_gradients(model.store(), &found, &expected["gradients"]);
    assert_losses(&losses(model, &with_an_empty_image()), &expected["losses_with_an_empty_image"]);
}

#[test]
fn mask_rcnn_v1_with_frozen_norms() {
    assert_case("mask_v1_resnet18_frozen", &mask_v1());
}

#[test]
fn mask_rcnn_v2() {
    let options = RcnnOptions::v2(CLASSES, BackboneOptions::scratch(ResNetKind::ResNet18));
    assert_case("mask_v2_resnet18", &mask(options, MaskOptions::v2()));
}

#[test]
fn keypoint_rcnn() {
    assert_case("keypoint_resnet18_frozen", &keypoint());
}

#[test]
fn faster_rcnn_on_a_mobilenet() {
    assert_case("faster_mobilenet_frozen", &faster(BackboneOptions::pretrained(MobileNetV3Kind::Large)));
}

#[test]
fn faster_rcnn_with_group_norms() {
    let backbone = BackboneOptions::scratch(ResNetKind::ResNet34);
    assert_case(
        "faster_v1_resnet34_group",
        &faster(BackboneOptions { norm: NormKind::Group { groups: 32 }, ..backbone }),
    );
}

#[test]
fn faster_rcnn_with_bottlenecks() {
    let backbone = BackboneOptions::pretrained(ResNetKind::ResNet50);
    assert_case("faster_v1_resnet50", &faster(BackboneOptions { trainable_layers: 5, ..backbone }));
}

/// torch's generator is one for the process, and other tests draw from it: this one runs in a process of its own.
#[test]
fn one_seed_gives_torchvisions_weights_and_samples() {
    let test = "detection::seeded_alone";
    let alone = Command::new(std::env::current_exe().unwrap()).args(["--exact", test, "--ignored"]).output().unwrap();
    let text = String::from_utf8_lossy(&alone.stdout);
    assert!(alone.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by one_seed_gives_torchvisions_weights_and_samples"]
fn seeded_alone() {
    let backbone = || BackboneOptions::scratch(ResNetKind::ResNet18);
    let expected = expected("detection/seeded");
    let mask_v1 = RcnnOptions { masks: Some(MaskOptions::v1()), ..RcnnOptions::v1(CLASSES, backbone()) };
    let mask_v2 = RcnnOptions { masks: Some(MaskOptions::v2()), ..RcnnOptions::v2(CLASSES, backbone()) };
    let faster_v1 = RcnnOptions::v1(CLASSES, backbone());
    let keypoints = Some(KeypointOptions { count: KEYPOINTS, ..KeypointOptions::default() });
    let keypoint = RcnnOptions { keypoints, ..RcnnOptions::v1(CLASSES, backbone()) };
    let mobile = RcnnOptions::v1(CLASSES, BackboneOptions::scratch(MobileNetV3Kind::Large));
    let all = [
        ("mask_v1", mask_v1),
        ("mask_v2", mask_v2),
        ("faster_v1", faster_v1),
        ("keypoint", keypoint),
        ("faster_mobilenet", mobile),
    ];
    for (name, options) in all {
        tch::manual_seed(42);
        let model = GeneralizedRcnn::new(small(options), Device::Cpu).unwrap();
        for (key, sum) in expected[name]["sums"].as_object().unwrap() {
            let tensor = model.store().get(key).unwrap_or_else(|| panic!("{name}: no {key}"));
            assert_near(&format!("{name} {key}"), &doubles(&tensor.sum(Kind::Double)), &floats(sum), 1e-5, 1e-5);
        }
        tch::manual_seed(7);
        assert_losses(&losses(&model, &targets()), &expected[name]["losses"]);
    }
}

fn tiny(paste: bool) -> GeneralizedRcnn {
    let options = RcnnOptions::v1(CLASSES, BackboneOptions::pretrained(ResNetKind::ResNet18));
    let masks = Some(MaskOptions { paste, ..MaskOptions::v1() });
    GeneralizedRcnn::new(RcnnOptions { masks, ..undrawn(options) }, Device::Cpu).unwrap()
}

#[test]
fn misshapen_ground_truth_is_named() {
    let model = tiny(true);
    let error = |targets: &[Target]| format!("{:#}", model.forward_train(&images(), targets).unwrap_err());
    let mut flat = targets();
    flat[1].boxes = flat[1].boxes.flatten(0, -1);
    assert!(error(&flat).contains("image 1 of the batch: boxes have shape [4]"), "{}", error(&flat));
    let mut unlabelled = targets();
    unlabelled[0].labels = Tensor::from_slice(&[1i64]);
    assert!(error(&unlabelled).contains("image 0 of the batch: labels are ([1], Int64)"), "{}", error(&unlabelled));
    let mut small = targets();
    small[1].masks = Some(Tensor::zeros([1, 8, 8], (Kind::Uint8, Device::Cpu)));
    assert!(error(&small).contains("they must be [1, 120, 90]"), "{}", error(&small));
    let mut maskless = targets();
    maskless[0].masks = None;
    assert!(error(&maskless).contains("there are no masks"));
    assert!(error(&targets()[..1]).contains("2 images but 1 targets"));
    let mut few = targets();
    few[0].keypoints = few[0].keypoints.take().map(|points| points.narrow(1, 0, 3));
    let text = format!("{:#}", keypoint().forward_train(&images(), &few).unwrap_err());
    assert!(text.contains("image 0 of the batch: keypoints are Float of shape [3, 3, 3]"), "{text}");
    few[0].keypoints = None;
    let text = format!("{:#}", keypoint().forward_train(&images(), &few).unwrap_err());
    assert!(text.contains("there are no keypoints"), "{text}");
    let text =
        format!("{:#}", model.forward_eval(&[Tensor::zeros([1, 8, 8], (Kind::Float, Device::Cpu))]).unwrap_err());
    assert!(text.contains("image 0 of the batch: has shape [1, 8, 8]"), "{text}");
}

#[test]
fn unpasted_masks_can_be_pasted_later() {
    let (model, cropping) = (tiny(true), tiny(false));
    for model in [&model, &cropping] {
        fill(model.store());
    }
    let (whole, cropped) = (model.forward_eval(&images()).unwrap(), cropping.forward_eval(&images()).unwrap());
    let cropped_masks = cropped[0].masks.as_ref().unwrap();
    assert_eq!(cropped_masks.size()[1..], [1, 28, 28]);
    let pasted = pipe_vision::masks::paste(cropped_masks, &cropped[0].boxes, (96, 128)).unwrap();
    assert_eq!(whole[0].masks.as_ref().unwrap(), &pasted);
}

#[test]
fn weights_for_other_classes_leave_the_predictors_out() {
    let model = tiny(true);
    let options = RcnnOptions::v1(7, BackboneOptions::pretrained(ResNetKind::ResNet18));
    let other = GeneralizedRcnn::new(RcnnOptions { masks: Some(MaskOptions::v1()), ..options }, Device::Cpu).unwrap();
    let state = other.store().state_dict();
    assert!(model.load(&state, Classes::Same).is_err());
    let report = model.load(&state, Classes::MayDiffer).unwrap();
    assert_eq!(report.misshapen.len(), 6, "{report}");
    let name = "rpn.head.cls_logits.weight";
    assert_eq!(model.store().get(name), other.store().get(name));
}

/// Both ways with torchvision itself, where a Python that has it is given: ours into its model, strictly, and its `.pth` into `other`.
pub fn travel(name: &str, model: &dyn Detector, other: &dyn Detector) {
    let Ok(python) = std::env::var("PIPE_TEST_PYTHON") else {
        eprintln!("skipped: PIPE_TEST_PYTHON names no Python with torchvision");
        return;
    };
    let has = Command::new(&python).args(["-c", "import torchvision, safetensors"]).output().unwrap();
    if !has.status.success() {
        eprintln!("skipped: the Python of PIPE_TEST_PYTHON has no torchvision");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fill(model.store());
    let file = folder.path().join("ours.safetensors");
    weights::write(&file, &model.store().state_dict(), &BTreeMap::new()).unwrap();
    let output = Command::new(python).arg(parity("detection/travel.py")).arg(folder.path()).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let back = weights::read(&folder.path().join("theirs.pth")).unwrap();
    assert!(other.load(&back.tensors, Classes::Same).unwrap().is_complete());
    let want: Value = serde_json::from_slice(&std::fs::read(folder.path().join("found.json")).unwrap()).unwrap();
    assert_detections(&other.forward_eval(&images()).unwrap(), &want);
}

#[test]
fn weights_travel_to_torchvision_and_back() {
    travel("mask_v1_resnet18_frozen", &mask_v1(), &mask_v1());
}

/// As in torchvision, where the layers behind the last whose map is taken are dropped, after all were drawn.
#[test]
fn layers_that_are_not_taken_are_no_part_of_the_model() {
    let with = |returned: &[usize]| {
        let backbone =
            BackboneOptions { returned_layers: returned.to_vec(), ..BackboneOptions::scratch(ResNetKind::ResNet18) };
        let levels = returned.len() + 1;
        let anchor_sizes = (0..levels).map(|level| vec![f64::from(16 << level)]).collect();
        let options =
            RcnnOptions { anchor_sizes, aspect_ratios: vec![vec![1.0]; levels], ..RcnnOptions::v1(5, backbone) };
        GeneralizedRcnn::new(options, Device::Cpu).unwrap()
    };
    let (whole, part) = (with(&[1, 2, 3, 4]), with(&[1, 2, 3]));
    let body = |model: &GeneralizedRcnn| {
        model.store().names().into_iter().filter(|name| name.starts_with("backbone.body.")).collect::<Vec<_>>()
    };
    let (whole, of_part) = (body(&whole), body(&part));
    assert!(whole.iter().any(|name| name.contains("layer4")) && !of_part.iter().any(|name| name.contains("layer4")));
    assert_eq!(of_part, whole[..of_part.len()]);
    // A classifier's weights have them, and so have those of a detector that keeps them.
    let classifier = ResNet::new(ResNetKind::ResNet18, 7, NormKind::Batch, Device::Cpu).unwrap().store().state_dict();
    let model = with(&[1, 2, 3]);
    assert!(model.load_backbone(&classifier).unwrap().is_complete());
    let mut older = model.store().state_dict();
    older.insert("backbone.body.layer4.0.conv1.weight".into(), Tensor::zeros([2], (Kind::Float, Device::Cpu)));
    assert!(model.load(&older, Classes::Same).unwrap().is_complete());
}

#[test]
fn keypoint_rcnns_travel_to_torchvision_and_back() {
    travel("keypoint_resnet18_frozen", &keypoint(), &keypoint());
}
