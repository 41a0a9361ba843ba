"""Exports a trained detector as ONNX: torchvision's own model with a run's options and weights, through torch's exporter.

    pip install torch==2.11.0 torchvision==0.26.0 onnx onnxscript onnxruntime safetensors
    python3 scripts/export_onnx.py runs/shapes --out shapes.onnx --check ~/.cache/pipe/shapes/val2017

The run is a folder; its best checkpoint is taken, or --weights. Exported are `model.faster_rcnn`, `mask_rcnn`, `keypoint_rcnn`, `retinanet`,
and `ssd` on VGG16: what torchvision has and its exporter can follow. Input `image`: float `[3, H, W]`, RGB from 0 to 1, of any size; outputs
`boxes` `[N, 4]` in its pixels, `labels`, `scores`, of a Mask R-CNN `masks` `[N, 1, H, W]`, of a Keypoint R-CNN `keypoints` `[N, K, 3]` and
`keypoints_scores` `[N, K]`. The classes are written into the file's metadata.

--check compares onnxruntime with `pipe predict --raw` on images as they are and at two thirds of their size: the same detections, scores
and masks within 1e-3, boxes and keypoints within 1e-3 of the image's longer side. Those without such an equal, where rounding has chosen
another of two boxes, are counted, beside those that torchvision's own model lacks where it runs in torch; keypoints at another of two peaks as
high are counted, too. Exit status 1 when more than one in a thousand detections, and more than torchvision's own, have no equal, or more than one in
a hundred keypoints.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import tomllib

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn
from torchvision.models.detection import FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, RPNHead, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD, _vgg_extractor
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

TOLERANCE = 1e-3
# Of the detections, so many may be without an equal.
UNEQUAL = 1e-3
# Of the keypoints, so many may be at another peak: around that of a heatmap after little training neighbors are nearly as high.
ASTRAY = 1e-2
# Of R-CNNs and RetinaNet, what is not given and depends on other options.
USUAL = {
    "min_size": [800],
    "returned_layers": [1, 2, 3, 4],
    "anchor_sizes": [[32], [64], [128], [256], [512]],
    "rpn_score_thresh": 0.0,
}
USUAL_OF_MOBILENET = {"anchor_sizes": [[32, 64, 128, 256, 512]] * 3, "rpn_score_thresh": 0.05}
# torchvision's first detectors, whose frozen norms have no epsilon.
WITHOUT_EPSILON = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
# The default boxes that `model.ssd` has at each size, as torchvision's and the paper's authors' for COCO.
SSD_SCALES = {
    300: [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
    512: [0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06],
}
SSD_STEPS = {300: [8, 16, 32, 64, 100, 300], 512: [8, 16, 32, 64, 128, 256, 512]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="the folder of a run")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the ONNX file")
    parser.add_argument("--model", help="the model's name, if the pipeline has several")
    parser.add_argument("--weights", type=pathlib.Path, help="a .safetensors file; default: the best checkpoint")
    parser.add_argument("--pipe", default="pipe", help="the program")
    parser.add_argument("--check", type=pathlib.Path, metavar="FOLDER", help="compare on images of this folder")
    parser.add_argument("--count", type=int, default=20, help="so many of them")
    args = parser.parse_args()
    name, table = find_model(args.run, args.model)
    weights = args.weights or best(args.run, name)
    model = build(table, options_of(table, args.pipe), load_file(weights)).eval()
    export(model, args.out, classes_of(weights))
    print(f"{args.out}: model.{name} ({table['type']}) with {weights}")
    if args.check:
        sys.exit(0 if check(model, table, weights, args) else 1)


def find_model(run, wanted):
    pipeline = tomllib.loads((run / "pipeline.toml").read_text())
    models = {name: table for name, table in pipeline.get("model", {}).items() if wanted in (None, name)}
    exported = {name: table for name, table in models.items() if table["type"] in BUILDERS}
    if len(exported) != 1:
        there = ", ".join(f"model.{name} ({table['type']})" for name, table in models.items()) or "none"
        what = "name one with --model" if exported else f"only {', '.join(BUILDERS)} can be exported"
        sys.exit(f"{run}: models are {there}; {what}")
    return exported.popitem()


def best(run, name):
    checkpoints = run / "checkpoints"
    found = checkpoints / "best.json"
    if not found.is_file() or not (entries := json.loads(found.read_text())["best"]):
        sys.exit(f"{checkpoints} has no best checkpoint; name one with --weights")
    return checkpoints / entries[0]["name"] / f"model.{name}.safetensors"


def options_of(table, pipe):
    """All options, defaults too."""
    command = [pipe, "components", f"model.{table['type']}", "--format", "json"]
    described = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    properties = described[0]["schema"]["properties"]
    given = {name: table.get(name, option.get("default")) for name, option in properties.items()}
    usual = USUAL
    if "mobilenet" in (given["backbone"] or ""):
        last = len(stages(getattr(torchvision.models, given["backbone"])().features)) - 1
        usual = USUAL | USUAL_OF_MOBILENET | {"returned_layers": [last - 1, last]}
    return given | {name: value for name, value in usual.items() if name in given and given[name] is None}


def classes_of(weights):
    """The classes by label, as the run keeps them beside the weights."""
    with open(weights, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return header.get("__metadata__", {})


def norm_of(state, o):
    """The layers that fit the backbone's weights; in evaluation frozen and batch norms are alike but for their epsilon."""
    first = "backbone.body." + ("0.1" if "mobilenet" in o["backbone"] else "bn1")
    if f"{first}.running_mean" not in state:
        return lambda channels: nn.GroupNorm(32, channels)
    if f"{first}.num_batches_tracked" in state:
        return nn.BatchNorm2d
    named = str(o["weights"] or "").lower().removeprefix("torchvision:").removesuffix(".coco_v1")
    eps = o["norm_eps"] if o["norm_eps"] is not None else 0.0 if named in WITHOUT_EPSILON else 1e-5
    return lambda channels: FrozenBatchNorm2d(channels, eps=eps)


def images_of(o):
    """How images are resized and normalized."""
    shortest = o["min_size"] if isinstance(o["min_size"], int) else o["min_size"][-1]
    options = {"min_size": shortest, "max_size": o["max_size"], "image_mean": o["image_mean"], "image_std": o["image_std"]}
    fixed = o["fixed_size"]
    return options | ({"fixed_size": (fixed, fixed) if isinstance(fixed, int) else tuple(fixed)} if fixed else {})


def anchors_of(o):
    return AnchorGenerator([tuple(sizes) for sizes in o["anchor_sizes"]], (tuple(o["aspect_ratios"]),) * len(o["anchor_sizes"]))


def stages(features):
    """The layers of a MobileNetV3 at which a stage begins, as torchvision counts them for its detectors."""
    return [0, *(index for index, block in enumerate(features) if getattr(block, "_is_cn", False)), len(features) - 1]


def pyramid(o, state, fpn_norm=None, extra=None):
    body = getattr(torchvision.models, o["backbone"])(norm_layer=norm_of(state, o))
    if "mobilenet" in o["backbone"]:
        body = body.features
        found = [stages(body)[stage] for stage in o["returned_layers"]]
        names, inputs = [str(layer) for layer in found], [body[layer].out_channels for layer in found]
    else:
        names = [f"layer{layer}" for layer in o["returned_layers"]]
        inputs = [body.inplanes >> 4 - layer for layer in o["returned_layers"]]
    extra = extra(body.inplanes) if extra else LastLevelMaxPool()
    layers = {name: str(place) for place, name in enumerate(names)}
    return BackboneWithFPN(body, layers, inputs, o["out_channels"], extra, fpn_norm)


RCNN = [
    "rpn_pre_nms_top_n_test", "rpn_post_nms_top_n_test", "rpn_nms_thresh", "rpn_score_thresh", "box_score_thresh", "box_nms_thresh",
    "box_detections_per_img",
]


def rcnn(o, state, kind):
    v2 = o["version"] == "v2"
    norm = nn.BatchNorm2d if v2 else None
    backbone, anchors, channels = pyramid(o, state, norm), anchors_of(o), o["out_channels"]
    classes, size = state["roi_heads.box_predictor.cls_score.weight"].shape[0], o["box_representation_size"]
    head = FastRCNNConvFCHead((channels, 7, 7), [256] * 4, [size], norm_layer=norm) if v2 else TwoMLPHead(channels * 49, size)
    parts = {
        "rpn_anchor_generator": anchors,
        "rpn_head": RPNHead(channels, anchors.num_anchors_per_location()[0], conv_depth=2 if v2 else 1),
        "box_head": head,
        "box_predictor": FastRCNNPredictor(size, classes),
        "bbox_reg_weights": tuple(o["bbox_reg_weights"]),
        **{name: o[name] for name in RCNN},
        **images_of(o),
    }
    if kind is MaskRCNN:
        layers = o["mask_layers"]
        parts["mask_head"] = MaskRCNNHeads(channels, layers, o["mask_dilation"], norm_layer=norm)
        parts["mask_predictor"] = MaskRCNNPredictor(layers[-1], o["mask_hidden"], classes)
    elif kind is KeypointRCNN:
        layers = o["keypoint_layers"]
        count = state["roi_heads.keypoint_predictor.kps_score_lowres.weight"].shape[1]
        parts["keypoint_head"] = KeypointRCNNHeads(channels, layers)
        parts["keypoint_predictor"] = KeypointRCNNPredictor(layers[-1], count)
    return kind(backbone, **parts)


def retinanet(o, state):
    v2 = o["version"] == "v2"
    # The map of the last layer that is taken.
    halvings = 4 - o["returned_layers"][-1]
    out = o["out_channels"]
    backbone = pyramid(o, state, extra=lambda channels: LastLevelP6P7(channels >> halvings if v2 else out, out))
    # torchvision takes the pyramid's own last map where the channels happen to be as many; the run's network does so in V1 only.
    backbone.fpn.extra_blocks.use_P5 = not v2
    anchors = anchors_of(o)
    each = anchors.num_anchors_per_location()[0]
    classes = state["head.classification_head.cls_logits.weight"].shape[0] // each
    norm = (lambda channels: nn.GroupNorm(32, channels)) if v2 else None
    head = RetinaNetHead(out, each, classes, norm_layer=norm)
    rest = {name: o[name] for name in ["score_thresh", "topk_candidates", "nms_thresh", "detections_per_img"]}
    return RetinaNet(backbone, classes, anchor_generator=anchors, head=head, **rest, **images_of(o))


def ssd(o, state):
    if o["backbone"] != "vgg16":
        sys.exit(f"torchvision has no SSD on {o['backbone']}: of `model.ssd` only that on vgg16 can be exported")
    size = o["size"]
    maps = len(SSD_STEPS[size])
    ratios = o["aspect_ratios"] or [[2], *[[2, 3]] * (maps - 3), [2], [2]]
    boxes = DefaultBoxGenerator(ratios, scales=o["scales"] or SSD_SCALES[size], steps=SSD_STEPS[size])
    classes = state["head.classification_head.module_list.0.weight"].shape[0] // boxes.num_anchors_per_location()[0]
    rest = {name: o[name] for name in ["score_thresh", "topk_candidates", "nms_thresh", "detections_per_img"]}
    rest["image_mean"] = o["image_mean"] or [0.48235, 0.45882, 0.40784]
    rest["image_std"] = o["image_std"] or [1.0 / 255.0] * 3
    backbone = _vgg_extractor(torchvision.models.vgg16(), highres=size == 512, trainable_layers=5)
    return SSD(backbone, boxes, (size, size), classes, **rest)


BUILDERS = {
    "mask_rcnn": lambda o, state: rcnn(o, state, MaskRCNN),
    "faster_rcnn": lambda o, state: rcnn(o, state, FasterRCNN),
    "keypoint_rcnn": lambda o, state: rcnn(o, state, KeypointRCNN),
    "retinanet": retinanet,
    "ssd": ssd,
}


def build(table, options, state):
    model = BUILDERS[table["type"]](options, state)
    model.load_state_dict(state, strict=True)
    return model


def export(model, out, metadata):
    import onnx

    # Traced on noise: what the program does must not depend on what there is to be seen.
    image = torch.rand(3, 240, 320, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        names = list(model([image])[0])
        axes = {"image": {1: "height", 2: "width"}} | {name: {0: "detections"} for name in names}
        torch.onnx.export(
            model, ([image],), out, opset_version=17, input_names=["image"], output_names=names, dynamic_axes=axes, dynamo=False
        )
    exported = onnx.load(out)
    for key, value in metadata.items():
        entry = exported.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(exported, out)


def counts(model):
    """What a run's pipeline takes from its dataset."""
    if hasattr(model, "roi_heads"):
        found = {"num_classes": model.roi_heads.box_predictor.cls_score.out_features}
        points = isinstance(model, KeypointRCNN)
        return found | ({"num_keypoints": model.roi_heads.keypoint_predictor.out_channels} if points else {})
    head = model.head.classification_head
    return {"num_classes": head.num_columns if isinstance(model, SSD) else head.num_classes}


def check(model, table, weights, args):
    import onnxruntime
    from torchvision.io import ImageReadMode, decode_image, write_png
    from torchvision.transforms.functional import resize

    files = sorted(path for path in args.check.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[: args.count]
    if not files:
        sys.exit(f"{args.check} has no images")
    session = onnxruntime.InferenceSession(args.out)
    names = [output.name for output in session.get_outputs()]
    unequal, own, worst, count, points, astray = 0, 0, {}, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        images = {}
        for file in files:
            image = decode_image(file, ImageReadMode.RGB)
            small = resize(image, [side * 2 // 3 for side in image.shape[1:]], antialias=True)
            for kind, pixels in (("whole", image), ("small", small)):
                images[f"{file.stem}_{kind}"] = pixels
                write_png(pixels, str(folder / f"{file.stem}_{kind}.png"))
        raw = predict(table, counts(model), weights, folder, args.pipe)
        for name, pixels in images.items():
            image = pixels.float() / 255
            theirs = {key: torch.from_numpy(value) for key, value in zip(names, session.run(None, {"image": image.numpy()}))}
            with torch.no_grad():
                own += unmatched("", model([image])[0], theirs, max(pixels.shape), {})[0]
            ours = load_file(raw / f"{name}.safetensors")
            count += len(ours["scores"])
            points += ours["keypoints_scores"].numel() if "keypoints" in ours else 0
            lost, elsewhere = unmatched(name, ours, theirs, max(pixels.shape), worst)
            unequal, astray = unequal + lost, astray + elsewhere
    if count == 0:
        sys.exit(f"nothing is found in {len(images)} images: there is nothing to compare")
    told = ", ".join(f"{key} {value:.1e}" for key, value in worst.items())
    of_points = f", {astray} of {points} keypoints at another peak as high" if points else ""
    lacking = f"{unequal} without an equal (of torchvision's own in torch {own})"
    print(f"{len(images)} images, {count} detections, {lacking}{of_points}; the largest differences of the others: {told}")
    return unequal <= max(UNEQUAL * count, own) and astray <= ASTRAY * points


def predict(table, numbers, weights, folder, pipe):
    """The raw outputs of `pipe` for the images in a folder, without transforms of the run's pipeline."""
    left_out = ("weights", "weights_backbone")
    values = {key: value for key, value in table.items() if key not in left_out} | numbers
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    (folder / "model.toml").write_text(f"[pipeline]\ndevice = \"cpu\"\ndeterministic = true\n[model.net]\n{lines}")
    command = [pipe, "predict", folder / "model.toml", "--weights", weights, "--images", folder, "--out", folder / "out.json"]
    subprocess.run([*command, "--raw", folder / "raw"], check=True, stdout=subprocess.DEVNULL)
    return folder / "raw"


def unmatched(name, ours, theirs, side, worst):
    """How many detections of either have no equal (those of nearly one score may stand in another order), and how many keypoints of the others."""
    free = list(range(len(theirs["scores"])))
    missing, astray = 0, 0
    rough = apart(ours, theirs, side)
    for index in range(len(ours["scores"])):
        others = [(gaps(ours, index, theirs, other, side), other) for other in free if rough[index][other] <= TOLERANCE]
        found, other = min(others, key=lambda pair: max(pair[0].values()), default=({}, None))
        off = max(found.values()) if found else min((rough[index][other] for other in free), default=1.0)
        if off > TOLERANCE:
            if name:
                print(f"{name}: detection {index} has no equal, the nearest is off by {off:.2g}")
            missing += 1
            continue
        free.remove(other)
        if "keypoints" in ours:
            away = (ours["keypoints"][index] - theirs["keypoints"][other])[:, :2].abs().amax(1) / side
            astray += int((away > TOLERANCE).sum())
            found["keypoints"] = max(away[away <= TOLERANCE].tolist(), default=0.0)
        for key, value in found.items():
            worst[key] = max(worst.get(key, 0.0), value)
    return max(missing, len(free)), astray


def apart(ours, theirs, side):
    """By how much each two detections differ in boxes and scores; those of other classes altogether."""
    pairs = lambda key: (ours[key][:, None], theirs[key][None])
    (a, b), (one, two), (first, second) = pairs("boxes"), pairs("scores"), pairs("labels")
    return torch.stack([(a - b).abs().amax(-1) / side, (one - two).abs(), (first != second).float()]).amax(0).tolist()


def gaps(ours, index, theirs, other, side):
    """By how much two detections of one class differ."""
    found = {
        "boxes": (ours["boxes"][index] - theirs["boxes"][other]).abs().max().item() / side,
        "scores": (ours["scores"][index] - theirs["scores"][other]).abs().item(),
    }
    if "masks" in ours and max(found.values()) <= TOLERANCE:
        found["masks"] = (ours["masks"][index] - theirs["masks"][other]).abs().max().item()
    if "keypoints_scores" in ours and max(found.values()) <= TOLERANCE:
        one, two = ours["keypoints_scores"][index], theirs["keypoints_scores"][other]
        found["keypoints_scores"] = ((one - two).abs() / two.abs().clamp(min=1.0)).max().item()
    return found


if __name__ == "__main__":
    main()
