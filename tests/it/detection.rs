//! The detectors against torchvision 0.26: names, initial values, losses, gradients, detections.
//! The numbers, and the script that makes them, are in `tests/parity/detection`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use pipe_vision::checkpoint::Classes;
use pipe_vision::weights;
use pipe_vision::{
    BackboneOptions, Detections, FasterRcnn, FasterRcnnOptions, MaskRcnn, MaskRcnnOptions, ResNetKind, Target,
};
use pipe_vision::{nn::NormKind, nn::ParameterStore};
use serde_json::Value;
use tch::{Device, Kind, Tensor, no_grad};

const CLASSES: i64 = 4;

fn parity(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity/detection").join(name)
}

fn expected(name: &str) -> Value {
    let text = std::fs::read_to_string(parity(&format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The hash of `make.py`: numbers from -1 to 1.
pub(crate) fn noise(seed: u64, count: usize) -> Tensor {
    let value = |index: u64| {
        let mut mixed = index.wrapping_add(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^= mixed >> 29;
        mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 40) as f32 / 8_388_608.0 - 1.0
    };
    Tensor::from_slice(&(0..count as u64).map(value).collect::<Vec<_>>())
}

pub(crate) fn fill(store: &ParameterStore) {
    for (name, mut tensor) in store.state_dict() {
        if tensor.kind() != Kind::Float {
            continue;
        }
        let mut values = noise(crc32fast::hash(name.as_bytes()).into(), tensor.numel()).reshape(tensor.size());
        if tensor.dim() > 1 {
            let fan = tensor.get(0).numel() as f64;
            values *= f64::from((6.0 / fan).sqrt() as f32);
            if name.contains("rpn.head") || name.contains("predictor") {
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

fn images() -> Vec<Tensor> {
    let image = |seed, height, width| {
        let small: Tensor = noise(seed, 192).reshape([1, 3, 8, 8]) * 0.5 + 0.5;
        small.upsample_nearest2d([height, width], None, None).squeeze_dim(0)
    };
    vec![image(1, 96, 128), image(2, 120, 90)]
}

fn target(boxes: &[[f32; 4]], labels: &[i64], height: i64, width: i64) -> Target {
    let masks = Tensor::zeros([boxes.len() as i64, height, width], (Kind::Uint8, Device::Cpu));
    for (index, corners) in boxes.iter().enumerate() {
        let [x1, y1, x2, y2] = corners.map(|v| v as i64);
        let (middle_x, middle_y) = ((x1 + x2) / 2, (y1 + y2) / 2);
        let mask = masks.get(index as i64);
        let _ = mask.narrow(0, y1, y2 - y1).narrow(1, x1, middle_x - x1).fill_(1);
        let _ = mask.narrow(0, middle_y, y2 - middle_y).narrow(1, x1, x2 - x1).fill_(1);
    }
    let boxes = Tensor::from_slice(&boxes.concat()).view([boxes.len() as i64, 4]);
    Target { boxes, labels: Tensor::from_slice(labels), masks: Some(masks) }
}

fn targets() -> Vec<Target> {
    let boxes = [[8.0, 10.0, 70.0, 80.0], [60.0, 20.0, 120.0, 60.0], [30.0, 40.0, 50.0, 62.0]];
    vec![target(&boxes, &[1, 2, 3], 96, 128), target(&[[10.0, 12.0, 80.0, 100.0]], &[2], 120, 90)]
}

fn with_an_empty_image() -> Vec<Target> {
    let mut targets = targets();
    targets[1] = target(&[], &[], 120, 90);
    targets
}

fn small(options: FasterRcnnOptions) -> FasterRcnnOptions {
    FasterRcnnOptions { min_size: vec![128], max_size: 160, ..options }
}

/// Everything sampled, few proposals: as `ALL` and `TEST` of `make.py`.
fn undrawn(options: FasterRcnnOptions) -> FasterRcnnOptions {
    FasterRcnnOptions {
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

enum Model {
    Mask(MaskRcnn),
    Faster(FasterRcnn),
}

impl Model {
    fn store(&self) -> &ParameterStore {
        match self {
            Self::Mask(model) => model.store(),
            Self::Faster(model) => model.store(),
        }
    }

    fn losses(&self, targets: &[Target]) -> Vec<(String, Tensor)> {
        let losses = match self {
            Self::Mask(model) => model.forward_train(&images(), targets),
            Self::Faster(model) => model.forward_train(&images(), targets),
        };
        losses.unwrap().into_iter().collect()
    }

    fn detect(&self) -> Vec<Detections> {
        match self {
            Self::Mask(model) => model.forward_eval(&images()).unwrap(),
            Self::Faster(model) => model.forward_eval(&images()).unwrap(),
        }
    }
}

fn mask(options: MaskRcnnOptions) -> Model {
    let detector = undrawn(options.detector);
    Model::Mask(MaskRcnn::new(MaskRcnnOptions { mask_hidden: 32, detector, ..options }, Device::Cpu).unwrap())
}

fn faster(backbone: BackboneOptions) -> Model {
    Model::Faster(FasterRcnn::new(undrawn(FasterRcnnOptions::v1(CLASSES, backbone)), Device::Cpu).unwrap())
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn doubles(tensor: &Tensor) -> Vec<f64> {
    tensor.detach().to_kind(Kind::Double).flatten(0, -1).try_into().unwrap()
}

#[track_caller]
fn assert_near(what: &str, have: &[f64], want: &[f64], absolute: f64, relative: f64) {
    assert_eq!(have.len(), want.len(), "{what}: {have:?}, torchvision {want:?}");
    for (have, want) in have.iter().zip(want) {
        assert!((have - want).abs() <= absolute + relative * want.abs(), "{what}: {have}, torchvision {want}");
    }
}

fn assert_losses(losses: &[(String, Tensor)], want: &Value) {
    let want = want.as_object().unwrap();
    assert_eq!(losses.iter().map(|(name, _)| name).collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (name, loss) in losses {
        assert_near(name, &doubles(loss), &[want[name].as_f64().unwrap()], 1e-7, 1e-4);
    }
}

fn assert_detections(found: &[Detections], want: &Value) {
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
    }
}

/// The norm of each parameter's gradient and its product with a fixed direction.
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
            &want,
            want[0] * 1e-3,
            0.0,
        );
    }
}

#[track_caller]
fn assert_case(name: &str, model: &Model) {
    let expected = expected(name);
    let names: Vec<_> = expected["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.is_empty() || model.store().names() == names, "names differ: {:#?}", model.store().names());
    fill(model.store());
    assert_detections(&model.detect(), &expected["detections"]);
    let losses = model.losses(&targets());
    assert_losses(&losses, &expected["losses"]);
    assert_gradients(model.store(), &losses, &expected["gradients"]);
    assert_losses(&model.losses(&with_an_empty_image()), &expected["losses_with_an_empty_image"]);
}

#[test]
fn mask_rcnn_v1_with_frozen_norms() {
    assert_case(
        "mask_v1_resnet18_frozen",
        &mask(MaskRcnnOptions::v1(CLASSES, BackboneOptions::pretrained(ResNetKind::ResNet18))),
    );
}

#[test]
fn mask_rcnn_v2() {
    assert_case(
        "mask_v2_resnet18",
        &mask(MaskRcnnOptions::v2(CLASSES, BackboneOptions::scratch(ResNetKind::ResNet18))),
    );
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
    let expected = expected("seeded");
    for (name, v2) in [("mask_v1", false), ("mask_v2", true), ("faster_v1", false)] {
        tch::manual_seed(42);
        let model = if name == "faster_v1" {
            let options = undrawn(FasterRcnnOptions::v1(CLASSES, backbone()));
            let usual = FasterRcnnOptions::v1(CLASSES, backbone());
            // `make.py` gives this case its sizes only.
            let options = FasterRcnnOptions { min_size: options.min_size, max_size: options.max_size, ..usual };
            Model::Faster(FasterRcnn::new(options, Device::Cpu).unwrap())
        } else {
            let options = if v2 { MaskRcnnOptions::v2 } else { MaskRcnnOptions::v1 }(CLASSES, backbone());
            let detector = small(options.detector.clone());
            Model::Mask(MaskRcnn::new(MaskRcnnOptions { detector, ..options }, Device::Cpu).unwrap())
        };
        for (key, sum) in expected[name]["sums"].as_object().unwrap() {
            let tensor = model.store().get(key).unwrap_or_else(|| panic!("{name}: no {key}"));
            assert_near(&format!("{name} {key}"), &doubles(&tensor.sum(Kind::Double)), &floats(sum), 1e-5, 1e-5);
        }
        tch::manual_seed(7);
        assert_losses(&model.losses(&targets()), &expected[name]["losses"]);
    }
}

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

/// By the program itself, from files to files: pictures as PNG, weights as a `.safetensors`.
#[test]
fn pipe_predict_finds_what_torchvision_finds() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = mask(MaskRcnnOptions::v1(CLASSES, BackboneOptions::pretrained(ResNetKind::ResNet18)));
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
        Detections { boxes: take("boxes"), labels: take("labels"), scores: take("scores"), masks: Some(take("masks")) }
    };
    let found = [raw(1), raw(2)];
    assert_detections(&found, &expected("predicted"));
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

fn tiny(paste_masks: bool) -> MaskRcnn {
    let options = MaskRcnnOptions::v1(CLASSES, BackboneOptions::pretrained(ResNetKind::ResNet18));
    let detector = undrawn(options.detector);
    MaskRcnn::new(MaskRcnnOptions { detector, paste_masks, ..options }, Device::Cpu).unwrap()
}

#[test]
fn senseless_ground_truth_is_named() {
    let model = tiny(true);
    let error = |targets: &[Target]| format!("{:#}", model.forward_train(&images(), targets).unwrap_err());
    let mut degenerate = targets();
    degenerate[1] = target(&[[10.0, 12.0, 10.0, 100.0]], &[2], 120, 90);
    let text = error(&degenerate);
    assert!(text.contains("image 1 of the batch: box 0 [10.0, 12.0, 10.0, 100.0]"), "{text}");
    let mut mislabelled = targets();
    mislabelled[0].labels = Tensor::from_slice(&[1i64, 4, 2]);
    assert!(error(&mislabelled).contains("image 0 of the batch: label 1 is 4; labels go from 1 to 3"));
    let mut maskless = targets();
    maskless[0].masks = None;
    assert!(error(&maskless).contains("there are no masks"));
    assert!(error(&targets()[..1]).contains("2 images but 1 targets"));
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
fn predictors_are_replaced_and_the_rest_is_kept() {
    let mut model = tiny(true);
    let names = model.store().names();
    let trunk = model.store().get("rpn.head.cls_logits.weight").unwrap().copy();
    let replaced = model.replace_predictors(7).unwrap();
    assert_eq!(model.store().names(), names);
    assert_eq!(model.num_classes(), 7);
    assert_eq!(model.store().get("rpn.head.cls_logits.weight").unwrap(), trunk);
    let classes = replaced.iter().find(|layer| layer.name == "roi_heads.box_predictor.cls_score.weight").unwrap();
    assert_eq!(classes.shapes, (vec![4, 1024], vec![7, 1024]));
    model.forward_train(&images(), &targets()).unwrap();
    let other = tiny(true).store().state_dict();
    assert!(model.load(&other, Classes::Same).is_err());
    let report = model.load(&other, Classes::MayDiffer).unwrap();
    assert_eq!(report.misshapen.len(), 6, "{report}");
}

/// Both ways with torchvision itself, where a Python that has it is given.
#[test]
fn weights_travel_to_torchvision_and_back() {
    let Some(python) = pipe_test_support::python() else {
        return pipe_test_support::skip!("PIPE_TEST_PYTHON names no Python with torchvision");
    };
    let has = Command::new(&python).args(["-c", "import torchvision, safetensors"]).output().unwrap();
    if !has.status.success() {
        return pipe_test_support::skip!("the Python of PIPE_TEST_PYTHON has no torchvision");
    }
    let folder = tempfile::tempdir().unwrap();
    let model = mask(MaskRcnnOptions::v1(CLASSES, BackboneOptions::pretrained(ResNetKind::ResNet18)));
    fill(model.store());
    let file = folder.path().join("ours.safetensors");
    weights::write(&file, &model.store().state_dict(), &BTreeMap::new()).unwrap();
    let output = Command::new(python).arg(parity("travel.py")).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let other = mask(MaskRcnnOptions::v1(CLASSES, BackboneOptions::pretrained(ResNetKind::ResNet18)));
    let back = weights::read(&folder.path().join("theirs.pth")).unwrap();
    let Model::Mask(other) = other else { unreachable!() };
    assert!(other.load(&back.tensors, Classes::Same).unwrap().is_complete());
    let want: Value = serde_json::from_slice(&std::fs::read(folder.path().join("found.json")).unwrap()).unwrap();
    assert_detections(&other.forward_eval(&images()).unwrap(), &want);
}
