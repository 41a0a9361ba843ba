"""Makes expected.json: what torchvision 0.26 and PIL make of one small sample, bytes in hexadecimal; and mixup.json.

Usage: python3 make.py
"""

import json
import pathlib

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

HEIGHT, WIDTH = 23, 30


def picture():
    """Smooth waves and some noise, so that both halves of an interpolation show."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.RandomState(0).randint(0, 60, (HEIGHT, WIDTH, 3))
    waves = np.stack([np.sin(x / 5.0), np.cos(y / 4.0), np.sin((x + y) / 6.0)], -1)
    return np.clip(100 + 90 * waves + noise, 0, 255).astype(np.uint8)


def masks():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    disc = (x - 8) ** 2 + (y - 9) ** 2 < 36
    band = (abs(x - y) < 3) & (x > 12)
    return np.stack([disc, band]).astype(np.uint8)


def hexed(values):
    return bytes(torch.as_tensor(values).flatten().tolist()).hex()


def hwc(tensor):
    """Values pixel by pixel: bytes as hexadecimal, every eleventh of floats."""
    values = tensor.permute(1, 2, 0).flatten()
    return hexed(values) if tensor.dtype == torch.uint8 else [round(v, 6) for v in values[::11].tolist()]


def main():
    pixels = picture()
    planes = masks()
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    floats = image.float() / 255
    mask = tv_tensors.Mask(torch.from_numpy(planes))
    boxes = [[2.0, 3.0, 14.5, 15.25], [12.0, 10.0, 26.0, 23.0], [0.0, 0.0, 4.0, 5.0]]
    box = tv_tensors.BoundingBoxes(torch.tensor(boxes), format="XYXY", canvas_size=(HEIGHT, WIDTH))
    out = {"height": HEIGHT, "width": WIDTH, "image": hexed(pixels), "masks": hexed(planes)}
    out["boxes"] = boxes

    out["resize"] = []
    for height, width in [(11, 13), (40, 61), (23, 12), (7, 45)]:
        entry = {"size": [height, width]}
        for name, mode in [("bilinear", InterpolationMode.BILINEAR), ("bicubic", InterpolationMode.BICUBIC)]:
            entry[name] = hwc(F.resize(image, [height, width], interpolation=mode, antialias=True))
        entry["pil"] = hexed(np.array(Image.fromarray(pixels).resize((width, height), Image.BILINEAR)))
        entry["float"] = hwc(F.resize(floats, [height, width], antialias=True))
        entry["masks"] = hexed(F.resize(mask, [height, width]))
        entry["boxes"] = F.resize(box, [height, width]).tolist()
        out["resize"].append(entry)

    out["flip"] = {
        name: {"image": hwc(f(image)), "masks": hexed(f(mask)), "boxes": f(box).tolist()}
        for name, f in [("horizontal", F.horizontal_flip), ("vertical", F.vertical_flip)]
    }

    out["crop"] = []
    for top, left, height, width in [(4, 6, 12, 15), (-3, -2, 20, 40), (10, 12, 20, 30)]:
        args = (top, left, height, width)
        cut = F.crop(box, *args)
        keep = (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])
        out["crop"].append({
            "window": args, "image": hwc(F.crop(image, *args)), "masks": hexed(F.crop(mask, *args)),
            "boxes": cut[keep].tolist(), "kept": keep.tolist(),
        })
    out["center_crop"] = [
        {"size": size, "image": hwc(F.center_crop(image, size))} for size in [[12, 15], [10, 40], [30, 31]]
    ]

    out["affine"] = []
    for angle, translate, scale, shear in [(30.0, [2, -3], 1.2, [7.0, 3.0]), (-75.0, [0, 0], 0.8, [0.0, 0.0])]:
        args = {"angle": angle, "translate": translate, "scale": scale, "shear": shear}
        out["affine"].append({
            **args,
            "nearest": hwc(F.affine(image, **args, interpolation=InterpolationMode.NEAREST, fill=[9.0])),
            "bilinear": hwc(F.affine(image, **args, interpolation=InterpolationMode.BILINEAR)),
            "masks": hexed(F.affine(mask, **args)),
            "boxes": F.affine(box, **args).tolist(),
        })

    colour = {}
    for name, f, factors in [
        ("brightness", F.adjust_brightness, [0.3, 1.7]), ("contrast", F.adjust_contrast, [0.3, 1.7]),
        ("saturation", F.adjust_saturation, [0.3, 1.7]), ("hue", F.adjust_hue, [-0.3, 0.1]),
    ]:
        colour[name] = [
            {"factor": v, "bytes": hwc(f(image, v)), "floats": hwc(f(floats, v))} for v in factors
        ]
    colour["gray"] = hwc(F.rgb_to_grayscale(image, num_output_channels=1))
    out["color"] = colour
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    out["normalize"] = hwc(F.normalize(floats, mean, std))

    out["rotate"] = []
    for angle, expand in [(30.0, False), (-75.0, True), (90.0, True), (180.0, False)]:
        args = {"angle": angle, "expand": expand}
        out["rotate"].append({
            **args,
            "size": list(F.rotate(image, **args).shape[1:]),
            "nearest": hwc(F.rotate(image, **args, fill=[9.0])),
            "bilinear": hwc(F.rotate(image, **args, interpolation=InterpolationMode.BILINEAR)),
            "masks": hexed(F.rotate(mask, **args)),
            "boxes": F.rotate(box, **args).tolist(),
        })
    out["pad"] = [
        {
            "padding": padding, "image": hwc(F.pad(image, padding, fill=[7.0])), "masks": hexed(F.pad(mask, padding)),
            "boxes": F.pad(box, padding).tolist(),
        }
        for padding in [[2], [1, 3], [1, 2, 3, 4]]
    ]
    out["blur"] = [
        {
            "kernel": kernel, "sigma": sigma, "bytes": hwc(F.gaussian_blur(image, kernel, [sigma, sigma])),
            "floats": hwc(F.gaussian_blur(floats, kernel, [sigma, sigma])),
        }
        for kernel, sigma in [([3, 3], 0.8), ([7, 5], 1.7), ([1, 9], 0.1), ([23, 23], 4.0)]
    ]
    # Each operation at some of its strengths, in both directions.
    trivial = v2.TrivialAugmentWide()
    out["trivial"] = []
    for place, (name, (magnitudes, signed)) in enumerate(trivial._AUGMENTATION_SPACE.items()):
        values = magnitudes(31, HEIGHT, WIDTH)
        for bin in [4, 15, 30] if values is not None else [0]:
            value = float(values[bin]) if values is not None else 0.0
            for sign in [1, -1] if signed else [1]:
                def make(image):
                    args = {"interpolation": InterpolationMode.NEAREST, "fill": trivial._fill}
                    return hwc(trivial._apply_image_or_video_transform(image, name, sign * value, **args))
                entry = {"operation": place, "name": name, "bin": bin, "sign": sign, "magnitude": value}
                # Every seventh byte, of each channel in turn.
                entry["bytes"] = bytes.fromhex(make(image))[::7].hex()
                if sign == 1 and not name.startswith(("Shear", "Translate", "Rotate")):
                    entry["floats"] = make(floats)
                out["trivial"].append(entry)

    here = pathlib.Path(__file__).parent
    (here / "expected.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")
    (here / "mixup.json").write_text(json.dumps(mixup(), separators=(",", ":")) + "\n")


def mixup():
    images = (torch.arange(5 * 1 * 2 * 3) * 0.3).sin().view(5, 1, 2, 3)
    labels = torch.tensor([0, 3, 1, 1, 2])
    transform, share = v2.MixUp(num_classes=4), 0.3
    transform.make_params = lambda _: {"lam": share}
    mixed, mixed_labels = transform(images, labels)
    return {
        "lambda": share, "images": images.flatten().tolist(), "labels": labels.tolist(),
        "mixed_images": mixed.flatten().tolist(), "mixed_labels": mixed_labels.flatten().tolist(),
    }


if __name__ == "__main__":
    main()
