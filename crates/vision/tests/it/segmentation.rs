//! Segmentation networks against torchvision's, with weights and images from an integer hash (`tests/parity/segmentation/make.py`).

use pipe_vision::{HeadKind, ResNetKind, SegmentationNet, SegmentationOptions};
use serde_json::Value;
use tch::{Device, Kind, Reduction, Tensor, no_grad};

use crate::common::{assert_near, doubles, expected, fill, noise};

const CLASSES: i64 = 5;

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

fn options(head: HeadKind) -> SegmentationOptions {
    SegmentationOptions { head, backbone: ResNetKind::ResNet50, out_layer: 4, aux: true, num_classes: CLASSES }
}

/// As `labels_for` of make.py.
fn labels(size: &[i64]) -> Tensor {
    let labels = Tensor::arange(size[0] * size[2] * size[3], (Kind::Int64, Device::Cpu)) * 31;
    let labels = labels.remainder(97).remainder(CLASSES + 1).reshape([size[0], size[2], size[3]]);
    labels.masked_fill(&labels.eq(CLASSES), 255)
}

fn some(logits: &Tensor) -> Vec<f64> {
    doubles(&logits.slice(2, None, None, 17).slice(3, None, None, 19))
}

fn sum(tensor: &Tensor) -> Vec<f64> {
    vec![tensor.to_kind(Kind::Double).abs().sum(Kind::Double).double_value(&[])]
}

fn compare(head: HeadKind, name: &str) {
    let expected = &expected("segmentation/expected")[name];
    let near = |what: &str, have: &[f64], want: &Value| assert_near(what, have, &numbers(want), 1e-4, 1e-4);
    tch::manual_seed(3);
    let network = SegmentationNet::new(options(head), Device::Cpu).expect("a network");
    let names = network.store().names();
    assert_eq!(serde_json::json!(names[names.len() - 9..]), expected["names"]);
    assert_eq!(names.len() as u64, expected["count"].as_u64().expect("a count"));
    let parameter = |name: &str| network.store().get(name).expect("a parameter");
    for (name, wanted) in expected["seeded"].as_object().expect("sums") {
        near(&format!("{name} drawn from a seed"), &sum(&parameter(name).detach()), wanted);
    }
    fill(network.store());
    let size: Vec<i64> = numbers(&expected["size"]).into_iter().map(|side| side as i64).collect();
    let images = noise(3, size.iter().product::<i64>() as usize).reshape(&size);
    let logits = no_grad(|| network.forward(&images, false, true)).expect("scores");
    assert_eq!(logits.out.size(), [size[0], CLASSES, size[2], size[3]]);
    near("scores in evaluation", &some(&logits.out), &expected["out"]);
    near("auxiliary scores in evaluation", &some(&logits.aux.expect("the other head")), &expected["aux"]);
    // Dropout draws from the generator as torch's does.
    tch::manual_seed(5);
    let logits = network.forward(&images, true, true).expect("scores");
    let aux = logits.aux.expect("the other head");
    // With norms over few values, other kernels than those of the stored numbers (AVX2, AVX-512) are this far off, torchvision's too.
    let roughly = |what: &str, have: &[f64], want: &Value| assert_near(what, have, &numbers(want), 1e-3, 5e-3);
    roughly("scores in training", &some(&logits.out), &expected["train_out"]);
    roughly("auxiliary scores in training", &some(&aux), &expected["train_aux"]);
    let labels = labels(&size);
    let loss = |logits: &Tensor| logits.cross_entropy_loss(&labels, None::<Tensor>, Reduction::Mean, 255, 0.0);
    let loss = loss(&logits.out) + loss(&aux) * 0.5;
    roughly("loss", &doubles(&loss), &expected["loss"]);
    loss.backward();
    for (name, wanted) in expected["gradients"].as_object().expect("gradients") {
        roughly(name, &sum(&parameter(name).grad()), wanted);
    }
    let mean = parameter("backbone.layer4.0.bn1.running_mean").to_kind(Kind::Double).sum(Kind::Double);
    roughly("running mean", &doubles(&mean), &expected["running_mean"]);
}

/// Seeds belong to the whole process, where other tests draw as well: so this one runs in a process of its own.
#[test]
fn networks_are_torchvisions() {
    let mut alone = std::process::Command::new(std::env::current_exe().expect("this test"));
    let alone = alone.args(["--exact", "--ignored", "segmentation::alone"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&alone.stdout) + String::from_utf8_lossy(&alone.stderr);
    assert!(alone.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by networks_are_torchvisions"]
fn alone() {
    compare(HeadKind::Fcn, "fcn_resnet50");
    compare(HeadKind::DeepLabV3, "deeplabv3_resnet50");
}

/// As many as torchvision says of its published weights.
#[test]
fn as_many_parameters_as_torchvisions() {
    for (head, backbone, count) in
        [(HeadKind::Fcn, ResNetKind::ResNet50, 35_322_218), (HeadKind::DeepLabV3, ResNetKind::ResNet101, 60_996_202)]
    {
        let options = SegmentationOptions { backbone, num_classes: 21, ..options(head) };
        let network = SegmentationNet::new(options, Device::Cpu).expect("a network");
        assert_eq!(network.store().parameter_count(), (count, count), "{head}_{backbone}");
    }
}

#[test]
fn weights_of_other_classes_leave_the_last_layers_as_they_are() {
    let small = |num_classes, aux| {
        let options = SegmentationOptions {
            backbone: ResNetKind::ResNet18,
            out_layer: 2,
            aux,
            num_classes,
            ..options(HeadKind::Fcn)
        };
        SegmentationNet::new(options, Device::Cpu).expect("a network")
    };
    let (trained, other) = (small(7, true), small(3, true));
    fill(trained.store());
    let before = other.store().get("classifier.4.bias").expect("a bias").copy();
    let report = other.load(&trained.store().state_dict()).expect("it fits");
    let misshapen: Vec<&str> = report.misshapen.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(
        misshapen,
        ["classifier.4.weight", "classifier.4.bias", "aux_classifier.4.weight", "aux_classifier.4.bias"]
    );
    assert_eq!(other.store().get("classifier.4.bias").expect("a bias"), before);
    let of = |network: &SegmentationNet, name: &str| network.store().get(name).expect("a tensor");
    assert_eq!(of(&other, "classifier.0.weight"), of(&trained, "classifier.0.weight"));
    let plain = small(7, false);
    assert!(plain.load(&trained.store().state_dict()).expect("it fits").is_complete(), "the other head is left aside");
    let error = trained.load(&plain.store().state_dict()).expect_err("nothing for the other head").to_string();
    assert!(error.contains("`aux_loss = false`"), "{error}");
    let mut classifier =
        pipe_vision::ResNet::new(ResNetKind::ResNet18, 10, pipe_vision::nn::NormKind::Batch, Device::Cpu)
            .expect("a classifier")
            .store()
            .state_dict();
    assert!(
        trained.load_backbone(&classifier).expect("it fits").is_complete(),
        "layers that it has not are left aside"
    );
    classifier.shift_remove("layer1.0.conv1.weight");
    assert!(trained.load_backbone(&classifier).is_err());
}
