#!/usr/bin/env python3
"""The same work by `pipe` and by a plain script on torch and torchvision, side by side.

    python3 -m venv VENV && VENV/bin/pip install -r benches/side_by_side/requirements.txt
    python3 benches/side_by_side/run.py --pipe target/release/pipe --python VENV/bin/python --coco COCO_SAMPLE [--row NAME …]

Both sides are whole processes. A row's time is that of one iteration (of inference, one image): what a run of many iterations takes longer
than one of few, over the number of iterations between; `start` is a run of one. Of inference the ratio of the long runs, start-up and all,
is told below the table. Sides take turns (A B A B …); what is printed are medians over the rounds,
and the ratio of each round's pair, of which the median, the least and the most. On a quiet machine only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent

# name: what, the pipeline and script, its settings, iterations of the short and of the long run, the bar.
ROWS = {
    "classification": ("ResNet-18, 64 px, batch 64, SGD", "classification", {}, (3, 23), 0.95),
    "detection-256": ("Mask R-CNN R50-FPN, 256 px, batch 4, SGD", "detection", {"size": 256, "batch": 4}, (1, 4), 0.80),
    "detection-512": ("Mask R-CNN R50-FPN, 512 px, batch 2, SGD", "detection", {"size": 512, "batch": 2}, (1, 4), 0.80),
    "inference-1": ("Mask R-CNN R50-FPN, 512 px, JPEG to COCO results, batch 1", "inference", {"size": 512, "batch": 1}, (8, 40), 0.80),
    "inference-8": ("Mask R-CNN R50-FPN, 512 px, JPEG to COCO results, batch 8", "inference", {"size": 512, "batch": 8}, (8, 40), 0.80),
    "start": ("start to the end of the first iteration, ResNet-18", "classification", {}, (0, 1), 0.20),
}


def timed(command, folder):
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return seconds


def predict(args, settings, images, folder):
    files = sorted((args.coco / "val2017").iterdir())[:images]
    (folder / "images.txt").write_text("\n".join(map(str, files)))
    command = [args.pipe, "predict", HERE / "inference.toml", "--set", f"vars.size={settings['size']}", "--device", "cpu"]
    command += ["--batch-size", str(settings["batch"]), "--weights", settings["weights"]]
    return timed(command + ["--images", folder / "images.txt", "--out", folder / "ours.json"], folder)


def pipe_side(args, name, settings, iterations, folder, run):
    if name == "inference":
        return predict(args, settings, iterations, folder)
    sets = [f"vars.{key}={json.dumps(value)}" for key, value in settings.items()]
    sets += [f"engine.trainer.max_iterations={iterations}", f'vars.data="{args.coco if name == "detection" else folder}"']
    command = [args.pipe, "run", HERE / f"{name}.toml", "--out", folder / run, "--quiet", "--device", "cpu"]
    return timed(command + [part for text in sets for part in ("--set", text)], folder)


def torch_side(args, name, settings, iterations, folder):
    values = [f"{key}={value}" for key, value in settings.items()]
    data = {"detection": args.coco, "inference": args.coco / "val2017"}.get(name, folder)
    return timed([args.python, HERE / f"{name}.py", str(data), str(iterations), *values], folder)


def measure(args, row, folder):
    what, name, settings, (few, many), bar = ROWS[row]
    sides, whole = [[], []], [[], []]
    for turn in range(args.rounds):
        for side, run in enumerate((pipe_side, torch_side)):
            more = lambda n: (f"{row}-{turn}-{n}",) if side == 0 else ()
            short = run(args, name, settings, few, folder, *more(few)) if few else 0.0
            long = run(args, name, settings, many, folder, *more(many))
            sides[side].append((long - short) / (many - few))
            whole[side].append(long)
    ratios = [ours / theirs for ours, theirs in zip(*sides)]
    ours, theirs, ratio = (statistics.median(values) for values in (*sides, ratios))
    print(f"| {what} | {ours:.3f} s | {theirs:.3f} s | **{ratio:.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) | ≤ {bar:.2f} |", flush=True)
    if name == "inference":
        ours, theirs, ratio = (statistics.median(values) for values in (*whole, [a / b for a, b in zip(*whole)]))
        return f"{row}, {many} images with start-up: {ours:.1f} s, {theirs:.1f} s, ratio {ratio:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", type=Path, required=True)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--coco", type=Path, required=True, help="a COCO folder with train2017 and its instances")
    parser.add_argument("--row", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.pipe, args.coco = args.pipe.absolute(), args.coco.resolve()
    args.python = args.python.absolute()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        subprocess.run([args.python, HERE / "classification.py", folder, "make"], check=True)
        for name, data in (("detection", args.coco), ("inference", args.coco / "val2017")):
            weights = folder / f"{name}.pth"
            for _, of_row, settings, *_ in ROWS.values():
                if of_row == name:
                    settings["weights"] = str(weights)
            if any(ROWS[row][1] == name for row in args.row):
                make = [args.python, HERE / f"{name}.py", data, "make", f"weights={weights}"]
                subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        load = os.getloadavg()[0]
        print(f"load before the start {load:.1f}, {args.rounds} rounds\n")
        print("| one iteration | `pipe` | torch | ratio | bar |\n|---|---|---|---|---|", flush=True)
        notes = [measure(args, row, folder) for row in args.row]
        print("", *filter(None, notes), sep="\n")


main()
