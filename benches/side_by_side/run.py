#!/usr/bin/env python3
"""The same work by `pipe` and by a plain script on torch and torchvision, side by side.

    python3 -m venv VENV && VENV/bin/pip install -r benches/side_by_side/requirements.txt
    python3 benches/side_by_side/run.py --pipe target/release/pipe --python VENV/bin/python --coco COCO_SAMPLE [--row NAME …]

Both sides are whole processes. A row's time is that of one iteration: what a run of many iterations takes longer than one of few, over
the number of iterations between; `start` is a run of one. Sides take turns (A B A B …); what is printed are medians over the rounds,
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
    "start": ("start to the end of the first iteration, ResNet-18", "classification", {}, (0, 1), 0.20),
}


def timed(command, folder):
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return seconds


def pipe_side(args, name, settings, iterations, folder, run):
    sets = [f"vars.{key}={json.dumps(value)}" for key, value in settings.items()]
    sets += [f"engine.trainer.max_iterations={iterations}", f'vars.data="{args.coco if name == "detection" else folder}"']
    command = [args.pipe, "run", HERE / f"{name}.toml", "--out", folder / run, "--quiet", "--device", "cpu"]
    return timed(command + [part for text in sets for part in ("--set", text)], folder)


def torch_side(args, name, settings, iterations, folder):
    values = [f"{key}={value}" for key, value in settings.items()]
    data = args.coco if name == "detection" else folder
    return timed([args.python, HERE / f"{name}.py", str(data), str(iterations), *values], folder)


def measure(args, row, folder):
    what, name, settings, (few, many), bar = ROWS[row]
    sides = [[], []]
    for turn in range(args.rounds):
        for side, run in enumerate((pipe_side, torch_side)):
            more = lambda n: (f"{row}-{turn}-{n}",) if side == 0 else ()
            short = run(args, name, settings, few, folder, *more(few)) if few else 0.0
            long = run(args, name, settings, many, folder, *more(many))
            sides[side].append((long - short) / (many - few))
    ratios = [ours / theirs for ours, theirs in zip(*sides)]
    ours, theirs, ratio = (statistics.median(values) for values in (*sides, ratios))
    print(f"| {what} | {ours:.3f} s | {theirs:.3f} s | **{ratio:.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) | ≤ {bar:.2f} |", flush=True)


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
        for _, name, settings, *_ in ROWS.values():
            if name == "detection":
                settings["weights"] = str(folder / "weights.pth")
        make = [args.python, HERE / "detection.py", args.coco, "make", f"weights={folder / 'weights.pth'}"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        load = os.getloadavg()[0]
        print(f"load before the start {load:.1f}, {args.rounds} rounds\n")
        print("| one iteration | `pipe` | torch | ratio | bar |\n|---|---|---|---|---|", flush=True)
        for row in args.row:
            measure(args, row, folder)


main()
