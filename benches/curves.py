#!/usr/bin/env python3
"""How the cost of an iteration grows, and whether memory does.

    python3 benches/curves.py --pipe target/release/pipe [--curve NAME …]

Each curve changes one number of a small Mask R-CNN on made images (`builtin:shapes`), or of a linear model on made digits, and prints what
`pipe bench` measures: milliseconds of an iteration, images a second of the loader alone, gigabytes at the peak. `nodes` is `pipe check` on shipped
pipelines and on ones of so many nodes, by its own clock and by the wall's, beside an empty program that loads the same libtorch (by gcc). `flat` is one run of 10,000 iterations, its resident memory as it goes.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

PIPELINES = Path(__file__).resolve().parents[1] / "pipelines"

DETECTOR = """
[pipeline]
name = "curve"
device = "cpu"
[vars]
size = 128
batch = 4
workers = 1
objects = 4
classes = 5
[dataset.train]
type = "coco"
root = "{data}"
[transform.train]
type = "resize"
size = "${{size}}"
[loader.train]
type = "batch"
dataset = "dataset.train"
transform = "transform.train"
batch_size = "${{batch}}"
workers = "${{workers}}"
shuffle = true
[model.net]
type = "mask_rcnn"
backbone = "resnet18"
num_classes = "${{classes}}"
skip_resize = true
[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.0001
[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 1000
[checks]
allow = ["unsaved-training"]
"""

DIGITS = """
[pipeline]
name = "flat"
device = "cpu"
[dataset.train]
type = "mnist"
root = "builtin:digits"
[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = 8
workers = 2
shuffle = true
[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]
[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.01
momentum = 0.9
[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_iterations = 10000
[handler.checkpoint]
type = "checkpoint"
[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.checkpoint"]
"""

# name: the variable, its values, what else is set.
CURVES = {
    "size": ("size", [64, 128, 256, 512], {"batch": 1}),
    "batch": ("batch", [1, 2, 4, 8, 16], {}),
    "workers": ("workers", [0, 1, 2, 4], {}),
    "annotations": ("objects", [1, 10, 100, 400], {}),
    "classes": ("classes", [5, 91, 1000, 5000], {}),
}


def write_coco(folder, objects):
    """32 images of 128 × 128 with so many objects each, by Pillow-free means: binary PPM."""
    (folder / "train2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images, annotations = [], []
    for number in range(1, 33):
        name = f"{number}.ppm"
        pixels = bytes((x * 7 + y * 3 + number * 11 + c * 50) % 256 for y in range(128) for x in range(128) for c in range(3))
        (folder / "train2017" / name).write_bytes(b"P6 128 128 255\n" + pixels)
        images.append({"id": number, "height": 128, "width": 128, "file_name": name})
        for k in range(objects):
            x, y, w, h = (k * 13) % 100, (k * 29) % 100, 12 + k % 16, 12 + (k * 3) % 16
            ring = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1 + k % 4, "iscrowd": 0,
                                "area": w * h, "bbox": [x, y, w, h], "segmentation": [ring]})
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, 5)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "annotations/instances_train2017.json").write_text(text)


def bench(args, file, settings):
    sets = [part for key, value in settings.items() for part in ("--set", f"vars.{key}={value}")]
    command = [args.pipe, "bench", file, "--iterations", str(args.iterations), "--format", "json", *sets]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout)


def curve(args, name, folder):
    key, values, more = CURVES[name]
    print(f"\n| {name} | iteration, ms | loader alone, images/s | peak, GB |\n|---:|---:|---:|---:|")
    for value in values:
        objects = value if name == "annotations" else 4
        data = folder / f"coco{objects}"
        if not data.exists():
            write_coco(data, objects)
        file = folder / f"{objects}.toml"
        file.write_text(DETECTOR.format(data=data))
        settings = {k: v for k, v in {**more, key: value}.items() if k != "objects"}
        report = bench(args, file, settings)
        loader = report["loader_images_per_second"]
        row = [value, f"{report['iteration_seconds'] * 1e3:.0f}", f"{loader:.0f}" if loader else "", f"{report['memory_peak_bytes'] / 1e9:.2f}"]
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def empty_program(args, folder):
    """A program that does nothing, linked to the libtorch that `pipe` runs with."""
    version = subprocess.run([args.pipe, "--version"], capture_output=True, text=True, check=True).stdout
    libraries = re.search(r"libtorch [^,]*, (.*)", version)[1]
    (folder / "empty.c").write_text("int main(void) { return 0; }\n")
    link = ["-Wl,--no-as-needed", f"-L{libraries}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{libraries}", "-Wl,--allow-shlib-undefined"]
    subprocess.run(["gcc", "empty.c", "-o", "empty", *link], cwd=folder, check=True)
    return folder / "empty"


def nodes(args, folder):
    """`pipe check` on shipped pipelines, and on ones with so many handlers, each on an event of its own."""
    print("\n| pipeline | `pipe check`, own ms | by the clock, ms | an empty program, ms |\n|---:|---:|---:|---:|")
    files = {name: PIPELINES / f"{name}.toml" for name in ["mnist", "maskrcnn_coco"]}
    for count in [10, 100, 1000]:
        extra = "".join(
            f'[handler.h{i}]\ntype = "optimizer_settings"\noptimizer = "optimizer.sgd"\n'
            f'[[on]]\nevent = "engine.trainer:iteration_completed"\nevery = {i + 1}\nrun = ["handler.h{i}"]\n'
            for i in range(count - 6)
        )
        files[f"{count} nodes"] = folder / f"nodes{count}.toml"
        files[f"{count} nodes"].write_text(DIGITS + extra)
    empty = empty_program(args, folder)
    for name, file in files.items():
        own, wall, nothing = [], [], []
        for _ in range(9):
            start = time.perf_counter()
            subprocess.run([empty], check=True)
            between = time.perf_counter()
            done = subprocess.run([args.pipe, "check", file], capture_output=True, text=True)
            wall.append((time.perf_counter() - between) * 1e3)
            nothing.append((between - start) * 1e3)
            if done.returncode != 0:
                raise SystemExit(done.stderr[-2000:])
            own.append(float(re.search(r"checked in ([0-9.]+) ms", done.stdout)[1]))
        print(f"| {name} | " + " | ".join([f"{statistics.median(own):.1f}", *(f"{statistics.median(v):.0f}" for v in (wall, nothing))]) + " |", flush=True)


def flat(args, folder):
    """Resident memory of a run of 10,000 iterations."""
    file = folder / "flat.toml"
    file.write_text(DIGITS)
    process = subprocess.Popen([args.pipe, "run", file, "--quiet", "--out", folder / "flat"], stdout=subprocess.DEVNULL)
    records, samples = folder / "flat/records.jsonl", []
    while process.poll() is None:
        time.sleep(0.2)
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            resident = int(re.search(r"VmRSS:\s+(\d+)", status)[1])
            last = records.read_text().rstrip().rsplit("\n", 1)[-1]
            samples.append((json.loads(last).get("step", 0), resident / 1024))
        except (OSError, TypeError, ValueError):
            continue
    if process.returncode != 0:
        raise SystemExit("the run failed")
    print("\n| iteration | resident, MB |\n|---:|---:|")
    for wanted in [500, 1000, 2500, 5000, 7500, 10000]:
        step, resident = min(samples, key=lambda sample: abs(sample[0] - wanted))
        print(f"| {step} | {resident:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", type=Path, required=True)
    parser.add_argument("--curve", nargs="+", choices=[*CURVES, "nodes", "flat"], default=[*CURVES, "nodes", "flat"])
    parser.add_argument("--iterations", type=int, default=4)
    args = parser.parse_args()
    args.pipe = args.pipe.absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in args.curve:
            folder = Path(folder)
            {"nodes": nodes, "flat": flat}.get(name, lambda a, f: curve(a, name, f))(args, folder)


main()
