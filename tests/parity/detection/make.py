"""Makes the numbers that the detectors are tested against. Run in this folder with torchvision 0.26.

Weights, images and ground truth come from an integer hash on both sides (crates/vision/tests/it/common.rs has the same), so none
are stored: only losses, sums over gradients and detections are."""

import json
import zlib

import numpy as np
import torch
import torchvision
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, RPNHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d

torch.set_num_threads(2)
CLASSES = 4


def noise(seed, count):
    """Numbers from -1 to 1: the upper 24 bits of a multiplicative hash of seed and index."""
    index = np.arange(count, dtype=np.uint64)
    mixed = (index + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return torch.from_numpy((mixed >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1))


def fill(model):
    """Fills every float tensor by its name: norms near the identity, others with a spread that keeps signals alive."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        values = noise(zlib.crc32(name.encode()), tensor.numel()).reshape(tensor.shape)
        if tensor.dim() > 1:
            fan = tensor[0].numel()
            values = values * float(np.float32((6.0 / fan) ** 0.5))
            if "rpn.head" in name or "predictor" in name:
                values = values * 0.1
        elif name.endswith("running_var") or name.endswith("weight"):
            values = values * 0.1 + 0.7
        else:
            values = values * 0.1
        tensor.copy_(values)


def images():
    def image(seed, height, width):
        small = noise(seed, 3 * 8 * 8).reshape(1, 3, 8, 8) * 0.5 + 0.5
        return torch.nn.functional.interpolate(small, size=(height, width), mode="nearest")[0]

    return [image(1, 96, 128), image(2, 120, 90)]


def targets():
    def of(boxes, labels, height, width):
        masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes):
            # An L within each box.
            mask[int(y1) : int(y2), int(x1) : int((x1 + x2) / 2)] = 1
            mask[int((y1 + y2) / 2) : int(y2), int(x1) : int(x2)] = 1
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        return {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64), "masks": masks}

    first = of([[8.0, 10.0, 70.0, 80.0], [60.0, 20.0, 120.0, 60.0], [30.0, 40.0, 50.0, 62.0]], [1, 2, 3], 96, 128)
    return [first, of([[10.0, 12.0, 80.0, 100.0]], [2], 120, 90)]


def model(kind, v2, backbone, norm, hidden=32, **options):
    norms = {"frozen": FrozenBatchNorm2d, "batch": torch.nn.BatchNorm2d, "group": lambda c: torch.nn.GroupNorm(32, c)}
    body = getattr(torchvision.models, backbone)(norm_layer=norms[norm])
    trainable = options.pop("trainable", 5)
    bn = torch.nn.BatchNorm2d
    body = _resnet_fpn_extractor(body, trainable, norm_layer=bn if v2 else None)
    options = {"min_size": 128, "max_size": 160, "num_classes": CLASSES, **options}
    if v2:
        options["rpn_head"] = RPNHead(256, 3, conv_depth=2)
        options["box_head"] = FastRCNNConvFCHead((256, 7, 7), [256, 256, 256, 256], [1024], norm_layer=bn)
    if kind == "faster":
        return FasterRCNN(body, **options)
    if v2:
        options["mask_head"] = MaskRCNNHeads(256, [256, 256, 256, 256], 1, norm_layer=bn)
    predictor = MaskRCNNPredictor(256, hidden, CLASSES)
    made = MaskRCNN(body, **options)
    made.roi_heads.mask_predictor = predictor
    return made


# Every anchor and every proposal enters the losses: nothing is drawn.
ALL = {"rpn_batch_size_per_image": 100000, "rpn_positive_fraction": 0.5}
ALL |= {"box_batch_size_per_image": 100000, "box_positive_fraction": 0.5}
ALL |= {"rpn_pre_nms_top_n_train": 60, "rpn_post_nms_top_n_train": 40}
TEST = {"rpn_pre_nms_top_n_test": 100, "rpn_post_nms_top_n_test": 50, "box_detections_per_img": 8}

CASES = {
    "mask_v1_resnet18_frozen": dict(kind="mask", v2=False, backbone="resnet18", norm="frozen", trainable=3),
    "mask_v2_resnet18": dict(kind="mask", v2=True, backbone="resnet18", norm="batch"),
    "faster_v1_resnet34_group": dict(kind="faster", v2=False, backbone="resnet34", norm="group"),
    "faster_v1_resnet50": dict(kind="faster", v2=False, backbone="resnet50", norm="frozen"),
}


def numbers(tensor, digits=7):
    return [float(f"{value:.{digits}g}") for value in tensor.detach().double().flatten().tolist()]


def train(made, truth):
    made.train()
    losses = made(images(), truth)
    sum(losses.values()).backward()
    gradients = {}
    for name, parameter in made.named_parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.double().flatten()
            probe = noise(7, gradient.numel()).double()
            gradients[name] = numbers(torch.stack([gradient.norm(), (gradient * probe).sum()]))
    made.zero_grad()
    return {name: loss.item() for name, loss in losses.items()}, gradients


def record(found):
    out = {key: numbers(found[key]) for key in ("boxes", "scores", "labels")}
    if "masks" in found:
        masks = found["masks"]
        out["mask_sums"] = numbers(masks.double().sum((1, 2, 3)))
        out["mask_rows"] = numbers(masks[:2, 0, ::16, ::16], 5)
    return out


def predicted():
    """Detections in the images as files hold them, in bytes: what `pipe predict` finds, one by one."""
    made = model(**CASES["mask_v1_resnet18_frozen"], **ALL, **TEST)
    with torch.no_grad():
        fill(made)
        pictures = [(image * 255).round().to(torch.uint8).float() / 255 for image in images()]
        return [record(made.eval()([picture])[0]) for picture in pictures]


def case(name, settings):
    made = model(**settings, **ALL, **TEST)
    with torch.no_grad():
        fill(made)
    out = {"names": list(made.state_dict()) if "resnet18" in name else [], "detections": []}
    made.eval()
    with torch.no_grad():
        out["detections"] = [record(found) for found in made(images())]
    out["losses"], out["gradients"] = train(made, targets())
    empty = targets()
    empty[1] = {key: value[:0] for key, value in empty[1].items()}
    out["losses_with_an_empty_image"], _ = train(made, empty)
    return out


def seeded():
    """Initial weights and, with ordinary sampling, losses after one seed."""
    out = {}
    for name, kind, v2 in [("mask_v1", "mask", False), ("mask_v2", "mask", True), ("faster_v1", "faster", False)]:
        torch.manual_seed(42)
        if kind == "mask":
            body = torchvision.models.resnet18(norm_layer=torch.nn.BatchNorm2d)
            body = _resnet_fpn_extractor(body, 5, norm_layer=torch.nn.BatchNorm2d if v2 else None)
            options = {"num_classes": CLASSES, "min_size": 128, "max_size": 160}
            if v2:
                bn = torch.nn.BatchNorm2d
                options["rpn_head"] = RPNHead(256, 3, conv_depth=2)
                options["box_head"] = FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=bn)
                options["mask_head"] = MaskRCNNHeads(256, [256] * 4, 1, norm_layer=bn)
            made = MaskRCNN(body, **options)
        else:
            made = model("faster", False, "resnet18", "batch")
        sums = {key: numbers(value.double().sum()) for key, value in made.state_dict().items() if value.dim() != 1}
        torch.manual_seed(7)
        made.train()
        losses = {key: value.item() for key, value in made(images(), targets()).items()}
        out[name] = {"sums": sums, "losses": losses}
    return out


if __name__ == "__main__":
    for name, settings in CASES.items():
        with open(f"{name}.json", "w") as file:
            json.dump(case(name, settings), file, separators=(",", ":"))
    with open("predicted.json", "w") as file:
        json.dump(predicted(), file, separators=(",", ":"))
    with open("seeded.json", "w") as file:
        json.dump(seeded(), file, separators=(",", ":"))
