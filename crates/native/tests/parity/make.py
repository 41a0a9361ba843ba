"""Makes the numbers that tests/it compares with, by torch and torchvision themselves.

    python3 make.py        # needs torch 2.11, torchvision 0.26, pillow, numpy, safetensors
"""

import io
import pathlib

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torchvision.io import ImageReadMode, decode_image

HERE = pathlib.Path(__file__).parent
torch.manual_seed(7)
torch.set_num_threads(1)


def ops():
    out = {}
    # RoIAlign: inside, across the border, outside, of no size, turned round, very large.
    out["roi.input"] = torch.randn(2, 3, 9, 11)
    out["roi.boxes"] = torch.tensor([
        [0, 2.0, 3.0, 15.0, 14.0],
        [1, -6.5, -4.0, 9.25, 7.75],
        [1, 14.0, 10.0, 40.0, 33.0],
        [0, 60.0, 60.0, 90.0, 80.0],
        [0, 5.0, 5.0, 5.0, 5.0],
        [1, 12.0, 9.0, 4.0, 3.0],
        [0, -30.0, -30.0, 60.0, 50.0],
    ])
    for i, (scale, h, w, ratio, aligned) in enumerate(
        [(0.5, 3, 4, 2, True), (0.5, 7, 7, 0, False), (0.25, 2, 2, -1, True), (1.0, 3, 2, 3, False)]
    ):
        x = out["roi.input"].clone().requires_grad_()
        y = torchvision.ops.roi_align(x, out["roi.boxes"], (h, w), scale, ratio, aligned)
        weight = torch.randn_like(y)
        (y * weight).sum().backward()
        out[f"roi.{i}.weight"], out[f"roi.{i}.out"], out[f"roi.{i}.grad"] = weight, y.detach(), x.grad

    for name, n, classes in [("few", 300, 4), ("many", 1500, 7)]:
        corner = torch.rand(n, 2) * 60
        boxes = torch.cat([corner, corner + torch.rand(n, 2) * 30], 1)
        scores = (torch.rand(n) * 200).round() / 200  # with ties
        of = torch.randint(0, classes, (n,))
        out[f"nms.{name}.boxes"], out[f"nms.{name}.scores"], out[f"nms.{name}.classes"] = boxes, scores, of
        out[f"nms.{name}.batched"] = torchvision.ops.batched_nms(boxes, scores, of, 0.5)
        if name == "few":
            out["nms.few.plain"] = torchvision.ops.nms(boxes, scores, 0.5)
    save_file({k: v.contiguous() for k, v in out.items()}, HERE / "ops.safetensors")


def optimizers():
    out = {"p.0": torch.randn(3, 4), "p.1": torch.randn(5), "t.0": torch.randn(3, 4), "t.1": torch.randn(5)}
    cases = {
        "sgd": (torch.optim.SGD, dict(lr=0.05)),
        "sgd_momentum": (torch.optim.SGD, dict(lr=0.02, momentum=0.9, weight_decay=1e-3, dampening=0.1)),
        "sgd_nesterov": (torch.optim.SGD, dict(lr=0.02, momentum=0.9, weight_decay=1e-3, nesterov=True)),
        "adam": (torch.optim.Adam, dict(lr=0.01, weight_decay=1e-2)),
        "adam_amsgrad": (torch.optim.Adam, dict(lr=0.01, amsgrad=True, betas=(0.8, 0.9))),
        "adamw": (torch.optim.AdamW, dict(lr=0.01, weight_decay=0.1)),
    }
    for name, (kind, options) in cases.items():
        params = [out["p.0"].clone().requires_grad_(), out["p.1"].clone().requires_grad_()]
        optimizer = kind(params, foreach=False, **options)
        for step in range(100):
            for i, p in enumerate(params):
                p.grad = (p.detach() - out[f"t.{i}"]) * (0.1 + 0.05 * (step % 7))
            optimizer.step()
        for i, p in enumerate(params):
            out[f"{name}.{i}"] = p.detach()
    grads = [torch.randn(3, 4) * 5, torch.randn(5) * 5]
    out["clip.in.0"], out["clip.in.1"] = grads[0].clone(), grads[1].clone()
    params = [torch.zeros_like(g) for g in grads]
    for p, g in zip(params, grads):
        p.grad = g
    out["clip.norm"] = torch.nn.utils.clip_grad_norm_(params, 2.5)
    out["clip.out.0"], out["clip.out.1"] = grads
    save_file({k: v.contiguous() for k, v in out.items()}, HERE / "optim.safetensors")


def images():
    out = {}
    y, x = np.mgrid[0:16, 0:24]
    rgb = np.stack([x * 10, y * 15, (x + y) * 6], -1).astype(np.uint8)

    def add(name, image, format, **options):
        buffer = io.BytesIO()
        image.save(buffer, format=format, **options)
        data = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
        out[f"{name}.file"] = data
        got = decode_image(data, ImageReadMode.RGB, apply_exif_orientation="exif" in options)
        if "exif" not in options and format == "JPEG":
            # What annotations and other tools refer to: PIL's pixels.
            pil = torch.from_numpy(np.array(Image.open(buffer).convert("RGB"))).permute(2, 0, 1)
            assert torch.equal(got, pil), name
        out[f"{name}.rgb"] = got if got.dtype == torch.uint8 else (got.to(torch.int32) // 257).to(torch.uint8)

    turned = Image.Exif()
    turned[0x0112] = 6
    add("jpeg", Image.fromarray(rgb), "JPEG", quality=90)
    add("jpeg_exif", Image.fromarray(rgb), "JPEG", quality=90, exif=turned)
    add("jpeg_grey", Image.fromarray(rgb[..., 0]), "JPEG", quality=90)
    add("jpeg_cmyk", Image.fromarray(np.dstack([rgb, rgb[..., :1]]), "CMYK"), "JPEG", quality=90)
    add("jpeg_progressive", Image.fromarray(rgb), "JPEG", quality=80, progressive=True)
    add("png", Image.fromarray(rgb), "PNG")
    add("png_alpha", Image.fromarray(np.dstack([rgb, 255 - rgb[..., :1]])), "PNG")
    add("png_palette", Image.fromarray(rgb).quantize(16), "PNG")
    add("png_16", Image.fromarray((rgb[..., 1].astype(np.uint16) * 257)), "PNG")
    add("gif", Image.fromarray(rgb).quantize(16), "GIF")
    save_file({k: v.contiguous() for k, v in out.items()}, HERE / "images.safetensors")


ops()
optimizers()
images()
