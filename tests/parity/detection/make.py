"""Makes the numbers that the detectors are tested against. Run in this folder with torchvision 0.26; arguments: cases, if not all.

Weights, images and ground truth come from an integer hash on both sides (crates/vision/tests/it/common.rs has the same), so none
are stored: only losses, sums over gradients and detections are."""

import json
import os
import subprocess
import sys
import zlib
from unittest import mock

import numpy as np
import torch
import torchvision
from torchvision.models.detection import FCOS, FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import _mobilenet_extractor, _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, RPNHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen
from torchvision.models.detection.ssd import SSD, _vgg_extractor
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

torch.set_num_threads(2)
CLASSES = 4
KEYPOINTS = 5


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
            if "rpn.head" in name or "predictor" in name or "cls_logits" in name:
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
        # Two corners, the middle, one beside the box, and one that is not labelled.
        points = [
            [[x1, y1, 2], [x2, y2, 1], [(x1 + x2) / 2, (y1 + y2) / 2, 2], [x1 - 6, y1, 2], [x1 + 3, y1 + 4, 0]]
            for x1, y1, x2, y2 in boxes
        ]
        points = torch.tensor(points, dtype=torch.float32).reshape(-1, KEYPOINTS, 3)
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor(labels, dtype=torch.int64)
        return {"boxes": boxes, "labels": labels, "masks": masks, "keypoints": points}

    first = of([[8.0, 10.0, 70.0, 80.0], [60.0, 20.0, 120.0, 60.0], [30.0, 40.0, 50.0, 62.0]], [1, 2, 3], 96, 128)
    return [first, of([[10.0, 12.0, 80.0, 100.0]], [2], 120, 90)]


def model(kind, v2, backbone, norm, hidden=32, **options):
    norms = {"frozen": FrozenBatchNorm2d, "batch": torch.nn.BatchNorm2d, "group": lambda c: torch.nn.GroupNorm(32, c)}
    body = getattr(torchvision.models, backbone)(norm_layer=norms[norm])
    trainable = options.pop("trainable", None)
    bn = torch.nn.BatchNorm2d
    if backbone.startswith("mobilenet"):
        body = _mobilenet_extractor(body, True, trainable or 6)
        anchors = AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
        options = {"rpn_anchor_generator": anchors, "rpn_score_thresh": 0.05, **options}
    else:
        body = _resnet_fpn_extractor(body, trainable or 5, norm_layer=bn if v2 else None)
    options = {"min_size": 128, "max_size": 160, "num_classes": CLASSES, **options}
    if v2:
        options["rpn_head"] = RPNHead(256, 3, conv_depth=2)
        options["box_head"] = FastRCNNConvFCHead((256, 7, 7), [256, 256, 256, 256], [1024], norm_layer=bn)
    if kind == "faster":
        return FasterRCNN(body, **options)
    if kind == "keypoint":
        if hidden:
            options["keypoint_head"] = KeypointRCNNHeads(256, (hidden,) * 8)
            return KeypointRCNN(body, keypoint_predictor=KeypointRCNNPredictor(hidden, KEYPOINTS), **options)
        return KeypointRCNN(body, num_keypoints=KEYPOINTS, **options)
    if v2:
        options["mask_head"] = MaskRCNNHeads(256, [256, 256, 256, 256], 1, norm_layer=bn)
    predictor = MaskRCNNPredictor(256, hidden, CLASSES)
    made = MaskRCNN(body, **options)
    made.roi_heads.mask_predictor = predictor
    return made


def one_stage(kind, backbone, norm="batch", v2=False, trainable=5, **options):
    """RetinaNet and FCOS, as torchvision's functions of ResNet-50 make them."""
    norms = {"frozen": FrozenBatchNorm2d, "batch": torch.nn.BatchNorm2d}
    body = getattr(torchvision.models, backbone)(norm_layer=norms[norm])
    channels = body.inplanes if v2 else 256
    extra = LastLevelP6P7(channels, 256)
    body = _resnet_fpn_extractor(body, trainable, returned_layers=[2, 3, 4], extra_blocks=extra)
    options = {"min_size": 128, "max_size": 160, "num_classes": CLASSES, "detections_per_img": 8, **options}
    if kind == "fcos":
        return FCOS(body, **options)
    if v2:
        anchors = _default_anchorgen()
        head = RetinaNetHead(256, 9, CLASSES, norm_layer=lambda channels: torch.nn.GroupNorm(32, channels))
        head.regression_head._loss_type = "giou"
        options |= {"anchor_generator": anchors, "head": head}
    return RetinaNet(body, **options)


def ssd(kind, trainable=5, **options):
    """SSD300 as torchvision's `ssd300_vgg16` makes it, whose backbone it freezes only with pretrained weights; SSDlite by its function."""
    options = {"num_classes": CLASSES, "detections_per_img": 8, **options}
    if kind == "ssdlite":
        return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, **options)
    if kind == "ssdlite_full":
        # As with pretrained weights of the backbone, which cannot be had everywhere: the tail as wide as a classifier's.
        whole = lambda reduced_tail, **more: torchvision.models.mobilenet_v3_large(**more)
        with mock.patch.object(torchvision.models.detection.ssdlite, "mobilenet_v3_large", whole):
            return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, **options)
    body = _vgg_extractor(torchvision.models.vgg16(), False, trainable)
    ratios = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
    scales = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
    boxes = DefaultBoxGenerator(ratios, scales=scales, steps=[8, 16, 32, 64, 100, 300])
    options = {"image_mean": [0.48235, 0.45882, 0.40784], "image_std": [1.0 / 255.0] * 3, **options}
    return SSD(body, boxes, (300, 300), **options)


# Every anchor and every proposal enters the losses: nothing is drawn.
ALL = {"rpn_batch_size_per_image": 100000, "rpn_positive_fraction": 0.5}
ALL |= {"box_batch_size_per_image": 100000, "box_positive_fraction": 0.5}
ALL |= {"rpn_pre_nms_top_n_train": 60, "rpn_post_nms_top_n_train": 40}
TEST = {"rpn_pre_nms_top_n_test": 100, "rpn_post_nms_top_n_test": 50, "box_detections_per_img": 8}

CASES = {
    "mask_v1_resnet18_frozen": dict(kind="mask", v2=False, backbone="resnet18", norm="frozen", trainable=3),
    "mask_v2_resnet18": dict(kind="mask", v2=True, backbone="resnet18", norm="batch"),
    "keypoint_resnet18_frozen": dict(kind="keypoint", v2=False, backbone="resnet18", norm="frozen", trainable=3),
    "faster_v1_resnet34_group": dict(kind="faster", v2=False, backbone="resnet34", norm="group"),
    "faster_mobilenet_frozen": dict(kind="faster", v2=False, backbone="mobilenet_v3_large", norm="frozen", trainable=3),
    "faster_v1_resnet50": dict(kind="faster", v2=False, backbone="resnet50", norm="frozen"),
}

ONE_STAGE = {
    "retinanet_v1_resnet18_frozen": dict(kind="retinanet", backbone="resnet18", norm="frozen", trainable=3),
    "retinanet_v2_resnet18": dict(kind="retinanet", backbone="resnet18", v2=True),
    "fcos_resnet18": dict(kind="fcos", backbone="resnet18"),
    "fcos_resnet50_frozen": dict(kind="fcos", backbone="resnet50", norm="frozen", trainable=3),
    # Pixels as ResNets have them: those of VGG are too large for weights from the hash.
    "ssd300_vgg16": dict(kind="ssd", trainable=3, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]),
    "ssdlite320": dict(kind="ssdlite"),
    "ssdlite320_full": dict(kind="ssdlite_full"),
}
NAMED = ["resnet18", "ssd", "mobilenet"]
SEEDED = ["retinanet_v1_resnet18_frozen", "retinanet_v2_resnet18", "fcos_resnet18", "ssd300_vgg16", "ssdlite320"]


def of_one_stage(name):
    settings = ONE_STAGE[name]
    return (ssd if settings["kind"].startswith("ssd") else one_stage)(**settings)


def made_of(name):
    """The model of a case, its weights from the hash."""
    made = of_one_stage(name) if name in ONE_STAGE else model(**CASES[name], **ALL, **TEST)
    with torch.no_grad():
        fill(made)
    return made


def numbers(tensor, digits=7):
    return [float(f"{value:.{digits}g}") for value in tensor.detach().double().flatten().tolist()]


def train(made, truth):
    """Losses, and of each parameter's gradient the norm and the product with a fixed direction."""
    made.train()
    losses = made(images(), truth)
    sum(losses.values()).backward()
    gradients = {}
    for name, parameter in made.named_parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.double().flatten()
            probe = noise(7, gradient.numel()).double()
            gradients[name] = torch.stack([gradient.norm(), (gradient * probe).sum()])
    made.zero_grad()
    return {name: loss.item() for name, loss in losses.items()}, gradients


def with_plain_kernels(what):
    """What another process makes, with plainer kernels: on other processors numbers are off by about as much."""
    env = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    return json.loads(subprocess.check_output([sys.executable, __file__, "--plain", what], env=env))


def plain(what):
    with torch.backends.mkldnn.flags(enabled=False):
        if what in ALONE:
            return ALONE[what]()
        _, gradients = train(made_of(what), targets())
        return {key: value.tolist() for key, value in gradients.items()}


def gradients(name):
    """Those of torchvision, and how far they are from its own with plainer kernels."""
    _, usual = train(made_of(name), targets())
    others = with_plain_kernels(name)
    return {key: numbers(value) + numbers((value - torch.tensor(others[key]).double()).abs().max(), 2) for key, value in usual.items()}


def spread(losses, others):
    """Each loss with how far it is from that with plainer kernels."""
    return {name: [loss, float(f"{abs(loss - others[name]):.2g}")] for name, loss in losses.items()}


def record(found):
    out = {key: numbers(found[key]) for key in ("boxes", "scores", "labels")}
    if "masks" in found:
        masks = found["masks"]
        out["mask_sums"] = numbers(masks.double().sum((1, 2, 3)))
        out["mask_rows"] = numbers(masks[:2, 0, ::16, ::16], 5)
    if "keypoints" in found:
        out["keypoints"] = numbers(found["keypoints"])
        out["keypoints_scores"] = numbers(found["keypoints_scores"])
    return out


def predicted():
    """Detections in the images as files hold them, in bytes: what `pipe predict` finds, one by one."""
    made = made_of("mask_v1_resnet18_frozen")
    with torch.no_grad():
        pictures = [(image * 255).round().to(torch.uint8).float() / 255 for image in images()]
        return [record(made.eval()([picture])[0]) for picture in pictures]


def case(name):
    made = made_of(name)
    out = {"names": list(made.state_dict()) if any(part in name for part in NAMED) else [], "detections": []}
    made.eval()
    with torch.no_grad():
        out["detections"] = [record(found) for found in made(images())]
    out["losses"], _ = train(made, targets())
    out["gradients"] = gradients(name)
    empty = targets()
    empty[1] = {key: value[:0] for key, value in empty[1].items()}
    out["losses_with_an_empty_image"], _ = train(made, empty)
    return out


def seeded():
    """Initial weights and, with ordinary sampling, losses after one seed."""
    out = {}
    kinds = [("mask_v1", "mask", False), ("mask_v2", "mask", True), ("faster_v1", "faster", False)]
    for name, kind, v2 in [*kinds, ("keypoint", "keypoint", False), ("faster_mobilenet", "faster", False)]:
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
            backbone = "mobilenet_v3_large" if "mobilenet" in name else "resnet18"
            made = model(kind, False, backbone, "batch", hidden=None)
        sums = {key: numbers(value.double().sum()) for key, value in made.state_dict().items() if value.dim() != 1}
        torch.manual_seed(7)
        made.train()
        losses = {key: value.item() for key, value in made(images(), targets()).items()}
        out[name] = {"sums": sums, "losses": losses}
    for name in SEEDED:
        torch.manual_seed(42)
        made = of_one_stage(name)
        out[name] = {key: numbers(value.double().sum()) for key, value in made.state_dict().items() if value.dim() != 1}
    return out


def ten_steps():
    """Losses of SSD300 over ten steps of plain SGD on the first image."""
    torch.manual_seed(42)
    made = ssd("ssd").train()
    optimizer = torch.optim.SGD(made.parameters(), lr=1e-5)
    steps = []
    for _ in range(10):
        losses = made(images()[:1], targets()[:1])
        steps.append({name: loss.item() for name, loss in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return steps


# What draws from torch's generator, so that each is made in a process of its own.
ALONE = {"seeded": seeded, "ten_steps": ten_steps}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain"]:
        print(json.dumps(plain(sys.argv[2])))
        sys.exit()
    for name in sys.argv[1:] or [*CASES, *ONE_STAGE]:
        with open(f"{name}.json", "w") as file:
            json.dump(case(name), file, separators=(",", ":"))
    if sys.argv[1:]:
        sys.exit()
    with open("ssd300_ten_steps.json", "w") as file:
        steps = [spread(*pair) for pair in zip(ten_steps(), with_plain_kernels("ten_steps"))]
        # What weights are off by once, they stay off by.
        most = 0.0
        for step in steps:
            most = max(most, *(off for _, off in step.values()))
            step.update({name: [loss, most] for name, (loss, _) in step.items()})
        json.dump(steps, file, separators=(",", ":"))
    with open("predicted.json", "w") as file:
        json.dump(predicted(), file, separators=(",", ":"))
    with open("seeded.json", "w") as file:
        made, others = seeded(), with_plain_kernels("seeded")
        for name, kind in made.items():
            if "losses" in kind:
                kind["losses"] = spread(kind["losses"], others[name]["losses"])
        json.dump(made, file, separators=(",", ":"))
