"""What torchvision's segmentation networks make of weights and images that come from an integer hash, for
crates/vision/tests/it/segmentation.rs, and what its references' confusion matrix says, for crates/components/src/metric/mean_iou.rs.

    python3 tests/parity/segmentation/make.py

Needs torchvision 0.26. Weights and images are those of ../detection/make.py, so none are stored: only some of the scores in evaluation
and in training (dropout drawn from a seed), losses as in references/segmentation, sums over gradients, and sums over the weights that
a seed gives. Writes expected.json and iou.json beside itself.
"""

import json
import pathlib
import sys

import torch
import torchvision
from torch.nn.functional import cross_entropy

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "detection"))
from make import fill, noise  # noqa: E402

CLASSES = 5
PROBED = [
    "backbone.conv1.weight", "backbone.layer3.1.conv2.weight", "backbone.layer4.0.conv2.weight", "classifier.4.bias",
    "aux_classifier.1.weight",
]
OF_HEAD = {"fcn_resnet50": "classifier.0.weight", "deeplabv3_resnet50": "classifier.0.convs.1.0.weight"}


def labels_for(size):
    count = size[0] * size[2] * size[3]
    labels = (torch.arange(count) * 31 % 97 % (CLASSES + 1)).reshape(size[0], size[2], size[3])
    return torch.where(labels == CLASSES, 255, labels)


def some(logits):
    return [round(value, 6) for value in logits.detach()[:, :, ::17, ::19].flatten().tolist()]


def criterion(inputs, target):
    losses = {name: cross_entropy(x, target, ignore_index=255) for name, x in inputs.items()}
    return losses, losses["out"] + 0.5 * losses["aux"]


def case(name, height, width):
    build = getattr(torchvision.models.segmentation, name)
    torch.manual_seed(3)
    model = build(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True)
    probed = PROBED + [OF_HEAD[name]]
    state = model.state_dict()
    seeded = {name: state[name].double().abs().sum().item() for name in probed}
    with torch.no_grad():
        fill(model)
    size = (2, 3, height, width)
    images = noise(3, 2 * 3 * height * width).reshape(size)
    labels = labels_for(size)
    model.eval()
    with torch.no_grad():
        evaluated = model(images)
    model.train()
    torch.manual_seed(5)
    trained = model(images)
    losses, loss = criterion(trained, labels)
    loss.backward()
    parameters = dict(model.named_parameters())
    return {
        "size": list(size),
        "out": some(evaluated["out"]),
        "aux": some(evaluated["aux"]),
        "train_out": some(trained["out"]),
        "train_aux": some(trained["aux"]),
        "losses": {name: value.item() for name, value in losses.items()},
        "loss": loss.item(),
        "gradients": {name: parameters[name].grad.double().abs().sum().item() for name in probed},
        "running_mean": model.state_dict()["backbone.layer4.0.bn1.running_mean"].double().sum().item(),
        "names": list(model.state_dict())[-9:],
        "count": len(model.state_dict()),
        "seeded": seeded,
    }


class ConfusionMatrix:
    """As in references/segmentation/utils.py."""

    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros((num_classes, num_classes), dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        inds = n * a[k].to(torch.int64) + b[k]
        self.mat += torch.bincount(inds, minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        acc = torch.diag(h) / h.sum(1)
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
        return acc_global, acc, iu


def iou():
    size = (2, CLASSES, 12, 10)
    logits = noise(7, 2 * CLASSES * 12 * 10).reshape(size)
    labels = labels_for((2, 3, 12, 10))
    # The last class is neither labelled nor predicted: it counts nowhere.
    logits[:, -1] = -2
    labels[labels == CLASSES - 1] = 0
    matrix = ConfusionMatrix(CLASSES)
    matrix.update(labels.flatten(), logits.argmax(1).flatten())
    acc_global, acc, iu = matrix.compute()
    occurring = iu[:-1]
    return {
        "acc_global": acc_global.item(),
        "acc": acc[:-1].tolist(),
        "iu": occurring.tolist(),
        "mean_iou": occurring.mean().item(),
    }


def main():
    expected = {"fcn_resnet50": case("fcn_resnet50", 64, 48), "deeplabv3_resnet50": case("deeplabv3_resnet50", 112, 104)}
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")
    (HERE / "iou.json").write_text(json.dumps(iou()) + "\n")


if __name__ == "__main__":
    main()
