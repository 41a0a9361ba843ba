"""`pipe predict` beside torchvision 0.26: the same weights, the same pictures, the same detections?

    python3 tests/parity/predict/compare.py --pipe target/release/pipe --images FOLDER [--count 20] [--device cuda]

Needs torch and torchvision only. Weights cannot be downloaded everywhere, so they are made here, from a fixed seed: norms
are fitted to the pictures and the last layers scaled until scores, boxes and masks have a spread like a trained model's.
Each model is saved as a `.pth`; `pipe predict --raw` and torchvision then see the same files. Compared are, detection by
detection in torchvision's order but for equal scores: label, box (0.01 px), score (1e-4), mask probabilities (1e-3), keypoints (0.01 px)
and their scores (1e-4 of the value), and the results file. A keypoint is the highest point of a map; where two are equally high, which of
them was chosen is counted (at most 5 % of a picture's).
Where equal scores let another box come first, detections are counted that have no equal (at most 5 % of a picture).
On the CPU that is with `deterministic = true`. Otherwise `pipe` takes norms into the convolutions and has other kernels, and a deep
network of such weights makes much of the last digits: then, and always on a GPU, the detections are compared as sets. Those of
torchvision without an equal are counted, beside those that torchvision's own model lacks in the first pictures when it computes in double
precision (of a GPU, on the CPU). Exit status 1 when something differs by more, or more than 1 % (and twice its own) are missing.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import torch
import torchvision
from torchvision.io import ImageReadMode, decode_image
from torchvision.models.detection import FCOS, FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet, ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _mobilenet_extractor, _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, RPNHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

CLASSES = 91
FORMS = ["state dict", "checkpoint", "legacy"]
BOX, SCORE, MASK = 0.01, 1e-4, 1e-3
# What two sets of kernels may differ by: ten times as much.
WIDER = 10
# In a picture, so many detections may be others because of equal scores.
CHOSEN = 0.05
# Pictures that torchvision's model sees on the CPU too.
YARDSTICK = 4
CASES = {
    "resnet18": dict(backbone="resnet18"),
    "resnet50": dict(backbone="resnet50"),
    "resnet101": dict(backbone="resnet101"),
    "resnet50_v2": dict(backbone="resnet50", v2=True),
    "keypoint_resnet18": dict(backbone="resnet18", masks=False, keypoints=True),
    "keypoint_resnet50": dict(backbone="resnet50", masks=False, keypoints=True),
    "faster_resnet34": dict(backbone="resnet34", masks=False),
    "faster_mobilenet": dict(backbone="mobilenet_v3_large", masks=False),
    "mask_mobilenet": dict(backbone="mobilenet_v3_large"),
    "retinanet_resnet50": dict(kind="retinanet", backbone="resnet50"),
    "retinanet_resnet50_v2": dict(kind="retinanet", backbone="resnet50", v2=True),
    "fcos_resnet50": dict(kind="fcos", backbone="resnet50"),
    "ssd300_vgg16": dict(kind="ssd"),
    "ssdlite320": dict(kind="ssdlite"),
}


def build_one_stage(kind, backbone=None, v2=False, frozen=True, **options):
    """As torchvision's functions, of any backbone; those of a fixed size take no other."""
    if kind == "ssd":
        return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES)
    if kind == "ssdlite":
        return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES)
    norm = torch.nn.BatchNorm2d
    body = getattr(torchvision.models, backbone)(norm_layer=FrozenBatchNorm2d if frozen and not v2 else norm)
    extra = LastLevelP6P7(body.inplanes if v2 else 256, 256)
    body = _resnet_fpn_extractor(body, 5, returned_layers=[2, 3, 4], extra_blocks=extra)
    if kind == "fcos":
        return FCOS(body, CLASSES, **options)
    if v2:
        head = RetinaNetHead(256, 9, CLASSES, norm_layer=lambda channels: torch.nn.GroupNorm(32, channels))
        head.regression_head._loss_type = "giou"
        options |= {"anchor_generator": _default_anchorgen(), "head": head}
    return RetinaNet(body, CLASSES, **options)


def build(backbone=None, v2=False, masks=True, keypoints=False, frozen=True, kind=None, **options):
    """A detector as torchvision's `maskrcnn_resnet50_fpn` and `_v2` make it, of any backbone; or one of those above."""
    if kind:
        return build_one_stage(kind, backbone, v2, frozen, **options)
    norm = torch.nn.BatchNorm2d
    body = getattr(torchvision.models, backbone)(norm_layer=FrozenBatchNorm2d if frozen and not v2 else norm)
    options["num_classes"] = CLASSES
    if backbone.startswith("mobilenet"):
        # As `fasterrcnn_mobilenet_v3_large_fpn`.
        body = _mobilenet_extractor(body, True, 6)
        anchors = AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
        options |= {"rpn_anchor_generator": anchors, "rpn_score_thresh": 0.05}
    else:
        body = _resnet_fpn_extractor(body, 5, norm_layer=norm if v2 else None)
    if v2:
        options["rpn_head"] = RPNHead(256, 3, conv_depth=2)
        options["box_head"] = FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=norm)
    if keypoints:
        return KeypointRCNN(body, **options)
    if not masks:
        return FasterRCNN(body, **options)
    if v2:
        options["mask_head"] = MaskRCNNHeads(256, [256] * 4, 1, norm_layer=norm)
    return MaskRCNN(body, **options)


def spread(layer, std, run):
    """Scales a layer's weights so that what it gives in `run` has this standard deviation."""
    given = []
    hook = layer.register_forward_hook(lambda _m, _i, out: given.append(out.detach().flatten()))
    run()
    hook.remove()
    layer.weight.mul_(std / torch.cat(given).std().clamp_min(1e-12))


@torch.no_grad()
def make_weights(case, pictures, seed, **options):
    """A state dict with which the model finds things, if not the right ones."""
    torch.manual_seed(seed)
    # Norms that can be fitted; frozen ones have the same names but the count of batches.
    model = build(**case, frozen=False, **options).eval()

    def run():
        model(pictures)

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.train()
    run()
    model.eval()
    if case.get("kind"):
        # Without norms in its heads RetinaNet's logits have long tails, and scores of exactly 1 have no order.
        spread_one_stage(model, run, 0.7 if case["kind"] == "retinanet" and not case.get("v2") else 2.0)
        state = model.state_dict()
        return state if has_batch_norm(case) else uncounted(state)
    heads = model.roi_heads
    spread(model.rpn.head.cls_logits, 2.0, run)
    spread(model.rpn.head.bbox_pred, 0.3, run)
    spread(heads.box_predictor.cls_score, 2.5, run)
    spread(heads.box_predictor.bbox_pred, 1.0, run)
    if case.get("masks", True):
        spread(heads.mask_predictor.mask_fcn_logits, 2.0, run)
    if case.get("keypoints"):
        spread(heads.keypoint_predictor.kps_score_lowres, 2.0, run)
    state = model.state_dict()
    return state if has_batch_norm(case) else uncounted(state)


def has_batch_norm(case):
    return case.get("v2") or case.get("kind") == "ssdlite"


def uncounted(state):
    """Frozen norms count no batches."""
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def spread_one_stage(model, run, std):
    classes, boxes = model.head.classification_head, model.head.regression_head
    of_class = [classes.cls_logits] if hasattr(classes, "cls_logits") else list(classes.module_list)
    of_box = [boxes.bbox_reg] if hasattr(boxes, "bbox_reg") else list(boxes.module_list)
    last = lambda layer: layer[-1] if isinstance(layer, torch.nn.Sequential) else layer
    for layer in of_class:
        spread(last(layer), std, run)
    for layer in of_box:
        spread(last(layer), 1.0, run)
    if hasattr(boxes, "bbox_ctrness"):
        spread(boxes.bbox_ctrness, 2.0, run)


def pipeline(case, device, options):
    kind = case.get("kind") or ("mask_rcnn" if case.get("masks", True) else "faster_rcnn")
    kind = "keypoint_rcnn" if case.get("keypoints") else kind
    norm = "" if kind.startswith("ssd") else 'norm = "frozen"'
    lines = [
        f'[pipeline]\nname = "compare"\ndevice = "{device}"\n',
        f'[model.detector]\ntype = "{kind}"\nnum_classes = {CLASSES}',
        f'backbone = "{case["backbone"]}"' if "backbone" in case else "",
        'version = "v2"' if case.get("v2") else norm,
        *(f"{name} = {value}" for name, value in options.items()),
    ]
    return "\n".join(lines) + "\n"


def read_safetensors(path):
    """Tensors of a file that holds f32 and i64: the format is a length, a header in JSON, and the bytes."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    kinds = {"F32": torch.float32, "I64": torch.int64}
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        first, end = entry["data_offsets"]
        part = bytearray(data[start + first : start + end])
        tensors[name] = torch.frombuffer(part, dtype=kinds[entry["dtype"]]) if part else torch.zeros(0)
        tensors[name] = tensors[name].reshape(entry["shape"])
    return tensors


def decode_rle(rle):
    """COCO's compressed runs as a bitmap, so that pycocotools is not needed."""
    counts, at, text = [], 0, rle["counts"].encode()
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            byte = text[at] - 48
            value |= (byte & 31) << shift
            more, shift, at = byte & 32, shift + 5, at + 1
            if not more and byte & 16:
                value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    height, width = rle["size"]
    bits = torch.repeat_interleave(torch.arange(len(counts)) % 2, torch.tensor(counts))
    return bits.reshape(width, height).T.bool()


def untied(found):
    """The order of detections in which those of one and the same score go by label and box: nobody says which of them comes first."""
    scores, labels, boxes = (found[key].tolist() for key in ("scores", "labels", "boxes"))
    first = [scores.index(score) for score in scores]
    return sorted(range(len(scores)), key=lambda index: (first[index], labels[index], boxes[index]))


def difference(ours, theirs, entries):
    """The largest differences of one picture, and the number of pixels that the results file has wrong."""
    if len(ours["scores"]) != len(theirs["scores"]):
        return None
    order = untied(ours)
    entries = [entries[index] for index in order] if len(entries) == len(order) else entries
    ours = {key: value[order] for key, value in ours.items()}
    theirs = {key: value[untied(theirs)] for key, value in theirs.items()}
    if not torch.equal(ours["labels"], theirs["labels"]):
        return None
    worst = {"box": 0.0, "score": 0.0, "mask": 0.0, "keypoint": 0.0, "keypoint score": 0.0, "pixels": 0, "peaks": 0}
    if not len(theirs["scores"]):
        return worst
    worst["box"] = (ours["boxes"] - theirs["boxes"]).abs().max().item()
    worst["score"] = (ours["scores"] - theirs["scores"]).abs().max().item()
    if "masks" in theirs:
        worst["mask"] = (ours["masks"] - theirs["masks"]).abs().max().item()
    if "keypoints" in theirs:
        apart, other = keypoint_distances(ours, theirs)
        worst["keypoint"], worst["peaks"] = apart[~other].max().item() if (~other).any() else 0.0, int(other.sum())
        if worst["peaks"] > CHOSEN * other.numel():
            return None
        scores = theirs["keypoints_scores"]
        worst["keypoint score"] = ((ours["keypoints_scores"] - scores).abs() / scores.abs().clamp_min(1)).max().item()
    for index, entry in enumerate(entries):
        x, y, w, h = entry["bbox"]
        box = (torch.tensor([x, y, x + w, y + h]) - theirs["boxes"][index]).abs().max().item()
        worst["box"] = max(worst["box"], box)
        worst["score"] = max(worst["score"], abs(entry["score"] - theirs["scores"][index].item()))
        if "keypoints" in theirs:
            points = torch.tensor(entry["keypoints"]).reshape(-1, 3)
            worst["keypoint"] = max(worst["keypoint"], (points - ours["keypoints"][index]).abs().max().item())
        if "masks" in theirs:
            clear = (theirs["masks"][index, 0] - 0.5).abs() > MASK
            bits = decode_rle(entry["segmentation"])
            worst["pixels"] += int(((bits != (theirs["masks"][index, 0] > 0.5)) & clear).sum())
    return worst


def keypoint_distances(ours, theirs):
    """How far keypoints are apart `[N, K]`, and which of them are another, equally high point of their map."""
    apart = (ours["keypoints"] - theirs["keypoints"]).abs().amax(2)
    scores = theirs["keypoints_scores"]
    as_high = (ours["keypoints_scores"] - scores).abs() <= SCORE * scores.abs().clamp_min(1)
    return apart, (apart > BOX) & as_high


def unmatched(ours, theirs, wider=WIDER):
    """How many of the detections in `theirs` have no equal in `ours`: label, box, score, and mask."""
    free, missing = list(range(len(ours["scores"]))), 0
    for index in range(len(theirs["scores"])):
        def equal(other):
            same = ours["labels"][other] == theirs["labels"][index]
            same = same and (ours["boxes"][other] - theirs["boxes"][index]).abs().max() <= wider * BOX
            same = same and (ours["scores"][other] - theirs["scores"][index]).abs() <= wider * SCORE
            if same and "masks" in theirs:
                same = (ours["masks"][other] - theirs["masks"][index]).abs().max() <= wider * MASK
            if same and "keypoints" in theirs:
                one = lambda found, at: {key: found[key][at : at + 1] for key in ("keypoints", "keypoints_scores")}
                apart, peaks = keypoint_distances(one(ours, other), one(theirs, index))
                same = ((apart <= wider * BOX) | peaks).all() and peaks.sum() <= max(1, CHOSEN * peaks.numel())
            return bool(same)
        found = next((other for other in free if equal(other)), None)
        if found is None:
            missing += 1
        else:
            free.remove(found)
    return missing


def compare_sets(name, form, files, raw, model, images, device):
    """Whether nearly all of torchvision's detections are there."""
    missing, own_missing, found, own = 0, 0, 0, 0
    predict = lambda model, image: {key: value.cpu() for key, value in model([image])[0].items()}
    with torch.no_grad():
        for file, image in zip(files, images):
            theirs = predict(model, image.to(device))
            missing += unmatched(read_safetensors(raw / f"{file.stem}.safetensors"), theirs)
            found += len(theirs["scores"])
        firsts = [predict(model, image.to(device)) for image in images[:YARDSTICK]]
        other = model.double() if device.type == "cpu" else model.cpu()
        for image, theirs in zip(images, firsts):
            own_missing += unmatched(predict(other, image.to(next(other.parameters()).dtype)), theirs)
            own += len(theirs["scores"])
    share, own_share = missing / max(found, 1), own_missing / max(own, 1)
    good = found and share <= max(0.01, 2 * own_share)
    print(
        f"{name:16} ({form}) {'same' if good else 'DIFFERS':8} {len(files)} pictures, {found:5} detections, {missing} without "
        f"an equal ({100 * share:.2f} %); torchvision's own {'in double precision' if device.type == 'cpu' else 'on the CPU'}: {own_missing} of {own} ({100 * own_share:.2f} %)",
        flush=True,
    )
    return bool(good)


def compare(name, case, form, files, args, folder):
    device = torch.device("cpu" if args.device == "auto" else args.device)
    fixed = case.get("kind", "").startswith("ssd")
    options = {} if fixed else {"min_size": args.min_size, "max_size": args.max_size}
    images = [decode_image(str(file), mode=ImageReadMode.RGB).float() / 255 for file in files]
    state = make_weights(case, images[:2], args.seed, **options)
    # Every form in which torchvision's weights are found: a state dict, a checkpoint's, a file of torch before 1.6.
    saved = {"checkpoint": {"model": state, "epoch": 3}}.get(form, state)
    torch.save(saved, folder / f"{name}.pth", _use_new_zipfile_serialization=form != "legacy")
    (folder / f"{name}.toml").write_text(pipeline(case, args.device, options))
    raw, out = folder / f"{name}_raw", folder / f"{name}.json"

    def predict(*more):
        shutil.rmtree(raw, ignore_errors=True)
        out.unlink(missing_ok=True)
        command = [args.pipe, "predict", folder / f"{name}.toml", "--weights", folder / f"{name}.pth", "--out", out]
        command += ["--raw", raw, *more, "--images", *files]
        start = time.perf_counter()
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name}: pipe predict failed\n{done.stderr}")
        return time.perf_counter() - start

    model = build(**case, **options)
    model.load_state_dict(state, strict=True)
    model.eval().to(device)
    if device.type != "cpu":
        predict()
        return compare_sets(name, form, files, raw, model, images, device)
    seconds = predict("--set", "pipeline.deterministic=true")
    entries = json.loads(out.read_text())
    names = ["box", "score", "mask", "keypoint", "keypoint score", "pixels", "peaks"]
    worst, found, spread_scores, failed = dict.fromkeys(names, 0.0), 0, [], []
    torch_seconds, otherwise = 0.0, 0
    for index, (file, image) in enumerate(zip(files, images)):
        start = time.perf_counter()
        with torch.no_grad():
            theirs = {key: value.cpu() for key, value in model([image.to(device)])[0].items()}
        torch_seconds += time.perf_counter() - start
        ours = read_safetensors(raw / f"{file.stem}.safetensors")
        number = int(file.stem) if file.stem.isdigit() else index + 1
        result = difference(ours, theirs, [entry for entry in entries if entry["image_id"] == number])
        if result is None or result["box"] > BOX:
            # On a surface of one color many boxes have one and the same score: another of them comes first, and suppresses others.
            chosen = unmatched(ours, theirs, 1)
            if len(ours["scores"]) == len(theirs["scores"]) and chosen <= CHOSEN * len(theirs["scores"]):
                found, otherwise = found + len(theirs["scores"]), otherwise + chosen
                continue
            failed.append(f"{file.name}: {len(ours['scores'])} detections, torchvision {len(theirs['scores'])}, or other classes")
            continue
        found += len(theirs["scores"])
        spread_scores += theirs["scores"].tolist()
        worst = {key: worst[key] + result[key] if key in ("pixels", "peaks") else max(worst[key], result[key]) for key in worst}
    scores = torch.tensor(spread_scores or [0.0])
    good = not failed and found and worst["box"] <= BOX and worst["score"] <= SCORE and worst["mask"] <= MASK
    good = good and worst["pixels"] == 0 and worst["keypoint"] <= BOX and worst["keypoint score"] <= SCORE
    print(
        f"{name:16} ({form}) {'same' if good else 'DIFFERS':8} {len(files)} pictures, {found:5} detections, scores "
        f"{scores.min():.2f} to {scores.max():.2f}; worst: box {worst['box']:.1e} px, score {worst['score']:.1e}, "
        f"mask {worst['mask']:.1e}, {worst['pixels']:.0f} clear pixels, keypoints {worst['keypoint']:.1e} px, their scores "
        f"{worst['keypoint score']:.1e}, {worst['peaks']:.0f} another peak; {otherwise} others chosen; pipe {seconds:.1f} s with start-up, "
        f"torchvision's model {torch_seconds:.1f} s",
        flush=True,
    )
    for text in failed:
        print(f"  {text}")
    predict()
    return compare_sets(name, form, files, raw, model, images, device) and bool(good)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", required=True, help="the pipe binary")
    parser.add_argument("--images", required=True, type=pathlib.Path, help="a folder of JPEG or PNG files")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--cases", default=",".join(CASES), help="of " + ", ".join(CASES))
    parser.add_argument("--device", default="cpu", help="auto: that of `pipe`, beside torchvision on the CPU")
    parser.add_argument("--min-size", type=int, default=800)
    parser.add_argument("--max-size", type=int, default=1333)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    # Plain fp32 on a GPU, here and in pipe: TF32 has ten bits, and either program may choose other kernels.
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    files = sorted(file for file in args.images.iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    files = files[: args.count]
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {args.device}, seed {args.seed}, "
          f"pictures resized to {args.min_size} (at most {args.max_size})")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for index, name in enumerate(args.cases.split(",")):
            form = FORMS[index % len(FORMS)]
            good &= compare(name, CASES[name], form, files, args, pathlib.Path(folder))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
