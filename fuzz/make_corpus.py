"""Writes the inputs of fuzz/corpus: small files of each format, made by the programs that usually make them.

Needs torch, Pillow and numpy. Those of findings (corpus/*/found_*) are not made here.
"""

import gzip
import io
import json
import pathlib
import struct
import zlib

import numpy as np
import torch
from PIL import Image

HERE = pathlib.Path(__file__).parent / "corpus"


def put(target, name, data):
    path = HERE / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def images():
    rng = np.random.default_rng(1)
    rgb = Image.fromarray(rng.integers(0, 256, (12, 17, 3), dtype=np.uint8))

    def saved(image, **options):
        out = io.BytesIO()
        image.save(out, **options)
        return out.getvalue()

    put("image", "plain.jpg", saved(rgb, format="JPEG", quality=40))
    put("image", "progressive.jpg", saved(rgb, format="JPEG", quality=30, progressive=True))
    put("image", "grey.jpg", saved(rgb.convert("L"), format="JPEG", quality=30))
    put("image", "cmyk.jpg", saved(rgb.convert("CMYK"), format="JPEG", quality=20))
    exif = Image.Exif()
    exif[0x0112] = 6
    put("image", "turned.jpg", saved(rgb, format="JPEG", quality=20, exif=exif))
    put("image", "plain.png", saved(rgb, format="PNG"))
    put("image", "palette.png", saved(rgb.quantize(8), format="PNG", transparency=1))
    put("image", "alpha.png", saved(rgb.convert("RGBA"), format="PNG", exif=exif))
    deep = Image.fromarray(rng.integers(0, 65536, (5, 6), dtype=np.uint16))
    put("image", "deep.png", saved(deep, format="PNG"))
    put("image", "plain.gif", saved(rgb.quantize(16), format="GIF"))
    frames = [rgb.quantize(4), rgb.rotate(90).resize((17, 12)).quantize(4)]
    put("image", "moving.gif", saved(frames[0], format="GIF", save_all=True, append_images=frames[1:], transparency=0))
    put("image", "lossy.webp", saved(rgb, format="WEBP", quality=30))
    put("image", "lossless.webp", saved(rgb.quantize(4).convert("RGB"), format="WEBP", lossless=True))
    put("image", "alpha.webp", saved(rgb.convert("RGBA"), format="WEBP", quality=10))


def safetensors(header, data):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def weights():
    net = {"w": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor(3), "h": torch.ones(2, dtype=torch.bfloat16)}
    shared = torch.arange(8.0)
    for name, value, zipped in [
        ("state.pth", net, True),
        ("old.pth", net, False),
        ("checkpoint.pth", {"model": {"module.a": shared[2:5], "module.b": shared[::2]}, "epoch": 3}, True),
        ("parameter.pth", torch.nn.Linear(2, 1).state_dict(), True),
    ]:
        out = io.BytesIO()
        torch.save(value, out, _use_new_zipfile_serialization=zipped)
        put("weights", name, out.getvalue())
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    plain = {"__metadata__": {"format": "pt"}, "a": entry, "b": {"dtype": "I64", "shape": [], "data_offsets": [16, 24]}}
    put("weights", "plain.safetensors", safetensors(plain, bytes(24)))


def annotations():
    square = [1, 1, 5, 1, 5, 5, 1, 5]
    file = {
        "images": [{"id": i, "height": 8, "width": 9, "file_name": f"{i}.jpg"} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0, "segmentation": [square]},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 8], "iscrowd": 1,
             "segmentation": {"size": [8, 9], "counts": [10, 20, 42]}},
            {"id": 3, "image_id": 2, "category_id": 3, "bbox": [0.5, 0.25, 3, 3], "area": 9.5, "iscrowd": 0,
             "segmentation": [[0.123, 0.5, 4.25, 0.5, 4.25, 4.5], [-3, -3, 20, -3, 20, 20]]},
        ],
    }
    put("coco", "small.json", json.dumps(file))
    rle = {"size": [8, 9], "counts": ":d05"}
    results = [
        {"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [1, 1, 4, 4], "segmentation": [square]},
        {"image_id": 2, "category_id": 3, "score": 0.5, "bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 4, 0, 4, 4]]},
    ]
    put("results", "polygons.json", json.dumps(results) + " " * (len(json.dumps(results)) % 2))
    put("results", "boxes.json", json.dumps([{k: v for k, v in r.items() if k != "segmentation"} for r in results]))
    put("results", "runs.json", json.dumps([{**results[0], "segmentation": rle}]))
    put("runs", "small", struct.pack("<HH", 8, 9) + b":d0Z1")
    put("runs", "full", struct.pack("<HH", 4, 4) + b"0`0")


def others():
    header = bytes([0, 0, 8, 3]) + struct.pack(">III", 2, 2, 3)
    put("idx", "plain", header + bytes(range(12)))
    put("idx", "packed.gz", gzip.compress(header + bytes(12), mtime=0))
    put("state", "state.json", json.dumps({
        "format": 2, "pipe": "0.1.0", "time": 1.5, "clock": {"step": 3, "epoch": 1}, "seed": 0,
        "frames": [{"engine": "engine.t", "node": "engine.t", "event": "epoch_completed", "done": ["handler.c"]}],
        "terminations": {"engine.t": "run"}, "fired": [], "nodes": {"handler.c": {"saved": []}},
        "values": {"metric.a:accuracy": [0.5, 3]}, "records": 120,
    }))


def journals():
    # What Optuna wrote for the tests of crates/sweep, as far as it has one line of everything.
    lines = (HERE.parent.parent / "crates/sweep/tests/optuna/journal.log").read_text().splitlines(keepends=True)
    put("journal", "optuna", "".join(lines[:40]))


def library():
    """A shared library of 64 bits with one exported symbol and nothing else: what a linker would write, cut down."""
    names = b"\0pipe_plugin_table_small\0"
    sections = b"\0.dynsym\0.dynstr\0.shstrtab\0"
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 0x11, 0, 1, 0x200, 8)
    at, tables = 64, []
    body = b""
    for data in (symbols, names, sections):
        tables.append((at + len(body), len(data)))
        body += data + bytes(-len(data) % 8)
    headers = bytes(64)
    # name, type, flags, address, offset, size, link, info, align, entry size
    for name, kind, (offset, size), link, info, entry in [
        (1, 11, tables[0], 2, 1, 24),
        (9, 3, tables[1], 0, 0, 0),
        (17, 3, tables[2], 0, 0, 0),
    ]:
        headers += struct.pack("<IIQQQQIIQQ", name, kind, 2, 0, offset, size, link, info, 8, entry)
    start = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head = start + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, at + len(body), 0, 64, 0, 0, 64, 4, 3)
    put("plugin", "small.so", head + body + headers)


def pipelines():
    put("pipeline", "small", '[vars]\nx = "idx"\n[dataset.d]\ntype = "mnist"\nroot = "${x}"\n[loader.l]\ntype = "batch"\n'
        'dataset = "dataset.d"\nbatch_size = 4\n[model.net]\ntype = "resnet"\nnum_classes = "dataset.d:num_classes"\n'
        '[optimizer.sgd]\ntype = "sgd"\nmodel = "model.net"\nlr = 0.1\n[engine.t]\ntype = "train"\nmodel = "model.net"\n'
        'optimizer = "optimizer.sgd"\nloader = "loader.l"\nmax_epochs = 1\n')
    put("pipeline", "base", 'extends = "base.toml"\n[vars]\nb = "${a} ${env:TOKEN}"\n[handler.h]\ntype = "hparams"\n'
        'settings = { a = "${b}" }\n[[on]]\nevent = "engine.t:completed"\nafter = 2\nrun = ["handler.h"]\n'
        '\n#base\n[vars]\na = """multi\nline"""\n[profile.demo]\nvars.a = "c"\n[pipeline]\nname = "p"\nseed = 3\n')


def folders():
    """A run's folder, as crates/history/src/scalars writes it: a curve of a block of 256 points and three more in the log."""
    point = lambda step, value: struct.pack("<QQqd", step, 1, 10**15 + 1000 * step, value)
    text = lambda word: struct.pack("<I", len(word)) + word
    summed = lambda body, more: struct.pack("<II", len(body) + more, zlib.crc32(body)) + body
    entries = struct.pack("<BIQ", 1, 0, 256) + text(b"a") + text(b"n")
    for step in (256, 257, 258):
        entries += struct.pack("<BIQ", 2, 0, step) + point(step, float("nan") if step == 257 else 0.5)
    log = b"pipelog1" + struct.pack("<QQ", 7, 1) + summed(entries, 0)
    head = b"pipepts1" + text(b"a")
    columns = bytes(range(256)) + b"".join((1000 * step).to_bytes(3, "little") for step in range(256))
    values = b"".join(struct.pack("<d", step) for step in range(256))
    block = summed(bytes([1, 0, 3, 0]) + struct.pack("<QQq", 0, 1, 10**15) + columns + values, 8)
    summary = struct.pack("<QQQQqq", 256, 0, 0, 255, 10**15, 10**15 + 255000)
    summary += point(0, 0.0) + point(255, 255.0) + struct.pack("<Q", len(head))
    index = summary + struct.pack("<I", zlib.crc32(summary))
    record = {"kind": "scalar", "tag": "a", "value": 1.5, "step": 1, "epoch": 1, "node": "n", "time": 1.5}
    image = {**record, "kind": "image", "value": {"file": "images/" + "0a" * 16 + ".png", "height": 2, "width": 2}}
    lines = lambda *all: "".join(json.dumps(one) + "\n" for one in all).encode()
    about = {"name": "mine", "tags": ["x"], "group": "g", "note": "n"}
    run = {"status": "done", "name": "digits", "created": 1.5, "earlier": [{"started": 1.0}], "generation": 1, "seed": 7}
    edit = {"outcome": "applied", "step": 3, "changes": [{"name": "optimizer.sgd.lr", "change": "1 → 2"}]}
    media = lines(image, {**record, "kind": "text", "value": "hello"})
    files = [(b"log", log), (b"points", head + block), (b"index", index), (b"media", media), (b"about", lines(about)),
             (b"run", lines(run)), (b"edits", lines(edit))]
    whole = lambda files: b"".join(b"\n#" + name + b"\n" + data for name, data in files)
    put("folder", "whole", whole(files))
    short = struct.pack("<BIQ", 1, 0, 0) + text(b"a") + text(b"n")
    short += b"".join(struct.pack("<BIQ", 2, 0, at) + point(at, 0.5 * at) for at in range(5))
    put("folder", "log", whole([(b"log", b"pipelog1" + struct.pack("<QQ", 7, 1) + summed(short, 0))]))
    # Counts and numbers at their end, of which there is then no next one.
    most = summary[:8] + b"\xff" * 8 + summary[16:]
    put("folder", "attack_counts", whole([files[0], files[1], (b"index", most + struct.pack("<I", zlib.crc32(most)))]))
    put("folder", "attack_numbers", whole([(b"log", b"pipelog1" + b"\xff" * 16 + summed(
        short.replace(struct.pack("<BI", 1, 0), struct.pack("<BI", 1, 2**32 - 1)).replace(b"a\x01", b"b\x01"), 0))]))
    put("folder", "records", whole([(b"records", lines(record, {**record, "step": 2, "value": "NaN"}))] + files[3:]))


def attacks():
    """What once did harm, as small as it can be."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 2, 1, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 127, 0, 2, 1, 0) + bytes([2, 2, 0x4C, 1, 0])
    put("image", "attack_outside.gif", screen + frame + b"\x3b")
    jpeg = bytearray((HERE / "image" / "plain.jpg").read_bytes())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    put("image", "attack_claims.jpg", bytes(jpeg))
    truth = json.loads((HERE / "coco" / "small.json").read_text())
    far = [999999.5, -999999.5, -999999.5, 999999.5, 3, 999999] * 100
    truth["annotations"] = [{**truth["annotations"][0], "segmentation": [far]}]
    truth["categories"].append({"id": 100000000, "name": "\x1b[31m"})
    put("coco", "attack_far.json", json.dumps(truth))
    put("pipeline", "attack_names", 'extends = "base.toml"\n[pipeline]\nname = "../x"\n[dataset.a]\ntype = "\\u001b[31m"\n'
        "\n#base\nroot:$6$hash:19000:0:::\n")
    put("pipeline", "attack_chain", "[vars]\nv0 = 1\n" + "".join(f'v{i} = "${{v{i - 1}}}"\n' for i in range(1, 600)))
    name = b"\x80\x02c" + b"m" * 999 + b"\nn\nq\x00" + b"h\x00)R0" * 200 + b"."
    put("weights", "attack_names.pth", name)


torch.manual_seed(0)
for part in (images, weights, annotations, others, journals, library, pipelines, folders, attacks):
    part()
