"""What torchvision's classifiers make of weights and images that come from an integer hash, for crates/vision/tests/it/resnet.rs.

    python3 tests/parity/resnet/make.py

Needs torchvision 0.26. Weights and images are those of ../detection/make.py, so none are stored: only logits in evaluation,
and loss, sums over gradients and a running mean in training. Writes expected.json beside itself.
"""

import json
import pathlib
import sys

import torch
import torchvision

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "detection"))
from make import fill, noise  # noqa: E402

CLASSES = 5
PROBED = ["conv1.weight", "layer1.0.bn1.weight", "layer3.0.downsample.0.weight", "layer4.1.conv2.weight", "fc.bias"]
VGG = ["features.0.weight", "features.5.weight", "features.25.weight", "classifier.0.weight", "classifier.6.bias"]
MOBILE = ["features.0.0.weight", "features.4.block.2.fc1.bias", "features.8.block.1.0.weight", "classifier.0.weight", "classifier.3.bias"]
# Without dropout, which draws.
OTHERS = {"vgg11_bn": (VGG, "features.5"), "mobilenet_v3_large": (MOBILE, "features.7.block.0.1"),
          "mobilenet_v3_small": (MOBILE, "features.7.block.0.1")}


def case(name, probed=PROBED, norm="layer2.0.bn1", **options):
    model = getattr(torchvision.models, name)(num_classes=CLASSES, **options)
    with torch.no_grad():
        fill(model)
    images = noise(3, 2 * 3 * 64 * 48).reshape(2, 3, 64, 48)
    model.eval()
    with torch.no_grad():
        logits = model(images)
    model.train()
    trained = model(images)
    loss = torch.nn.functional.cross_entropy(trained, torch.tensor([1, 3]))
    loss.backward()
    parameters = dict(model.named_parameters())
    return {
        "logits": logits.tolist(),
        "train_logits": trained.tolist(),
        "loss": loss.item(),
        "gradients": {name: parameters[name].grad.double().abs().sum().item() for name in probed},
        "running_mean": model.state_dict()[f"{norm}.running_mean"].double().sum().item(),
        "names": len(model.state_dict()),
    }


def main():
    expected = {name: case(name) for name in ["resnet18", "resnet50", "resnext50_32x4d"]}
    for name, (probed, norm) in OTHERS.items():
        expected[name] = case(name, probed, norm, dropout=0.0)
        torch.manual_seed(42)
        model = getattr(torchvision.models, name)(num_classes=CLASSES, dropout=0.0)
        expected[name]["seeded"] = sum(value.double().sum() for value in model.state_dict().values()).item()
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
