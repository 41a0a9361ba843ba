#!/usr/bin/env python3
"""The same work by `pipe` and by a plain script on torch and torchvision, side by side.

    python3 -m venv VENV && VENV/bin/pip install -r benches/side_by_side/requirements.txt
    cargo build --release -p pipe-coco --example coco_bench
    python3 benches/side_by_side/run.py --pipe target/release/pipe --python VENV/bin/python --coco COCO_SAMPLE [--row NAME …]

Both sides are whole processes. A row's time is that of one iteration (of inference, one image): what a run of many iterations takes longer
than one of few, over the number of iterations between; `start` is a run of one. Below the table: of inference the ratio of the long runs,
start-up and all; of training the peak of memory, that of a process and its children with shared pages counted once. Sides take turns (A B A B …); what is printed are medians over the rounds,
and the ratio of each round's pair, of which the median, the least and the most. On a quiet machine only.

The rows `coco-…` are COCO's annotations and evaluation beside pycocotools, faster-coco-eval and hotcoco, each in a process of its own that says how long
it took from opening the files to the numbers, without its own start, and its peak memory; ours is `coco_bench`. All twelve numbers must agree.

The rows `loader`, `engine` and `checkpoint` are programs of their own, which print what they find: benches/loader.rs beside the article's DataLoader
(bar: 5 times as many images a second), scripts/engine_overhead.py beside Ignite (at most 1/10), and how long training stands still for a checkpoint
beside torch.save (at most 1/5), of scripts/gpu_suite.py.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent

# name: what, the pipeline and script, its settings, iterations of the short and of the long run, the bar.
ROWS = {
    "classification": ("ResNet-18, 64 px, batch 64, SGD", "classification", {}, (3, 23), 0.95),
    "detection-256": ("Mask R-CNN R50-FPN, 256 px, batch 4, SGD", "detection", {"size": 256, "batch": 4}, (1, 4), 0.80),
    "detection-512": ("Mask R-CNN R50-FPN, 512 px, batch 2, SGD", "detection", {"size": 512, "batch": 2}, (1, 4), 0.80),
    "detection-256-bf16": ("the same, bf16", "detection", {"size": 256, "batch": 4, "precision": "bf16"}, (1, 4), 0.65),
    "detection-512-bf16": ("512 px, batch 2, bf16", "detection", {"size": 512, "batch": 2, "precision": "bf16"}, (1, 4), 0.65),
    "inference-1": ("Mask R-CNN R50-FPN, 512 px, JPEG to COCO results, batch 1", "inference", {"size": 512, "batch": 1}, (8, 40), 0.80),
    "inference-8": ("Mask R-CNN R50-FPN, 512 px, JPEG to COCO results, batch 8", "inference", {"size": 512, "batch": 8}, (8, 40), 0.80),
    "start": ("start to the end of the first iteration, ResNet-18", "classification", {}, (0, 1), 0.20),
}

# name: what, what is read, the libraries with how many times as fast is the bar.
EVALUATION = {"pycocotools": 20, "faster-coco-eval": 5, "hotcoco": 1}
COCO_ROWS = {
    "coco-index": ("index, 118,287 images, 860,001 annotations", ["index", "big.json"], {"pycocotools": 10}),
    "coco-boxes": ("boxes, 5,000 images × 100 detections", ["bbox", "gt.json", "bbox_100.json"], EVALUATION),
    "coco-boxes-20": ("boxes, 5,000 images × 20", ["bbox", "gt.json", "bbox_20.json"], EVALUATION),
    "coco-masks": ("masks, 5,000 images × 100 detections", ["segm", "gt.json", "segm_100.json"], EVALUATION),
    "coco-masks-20": ("masks, 5,000 images × 20", ["segm", "gt.json", "segm_20.json"], EVALUATION),
}

OTHERS = ("loader", "engine", "checkpoint")


def tree(process):
    """A process and all below it."""
    found = [process]
    for parent in found:
        try:
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        except OSError:
            pass
    return found


def memory(process, peak):
    """Keeps the most gibibytes that a process and all below it hold."""
    while process.poll() is None:
        total = 0
        for one in tree(process.pid):
            try:
                total += int(Path(f"/proc/{one}/smaps_rollup").read_text().split("Pss:")[1].split()[0])
            except (OSError, IndexError):
                pass
        peak[0] = max(peak[0], total / 2**20)
        time.sleep(0.2)


def timed(command, folder):
    """Seconds, and the peak of memory in GiB."""
    start, peak = time.perf_counter(), [0.0]
    done = subprocess.Popen(command, cwd=folder, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = threading.Thread(target=memory, args=(done, peak))
    watch.start()
    stdout, stderr = done.communicate()
    seconds = time.perf_counter() - start
    watch.join()
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{stdout[-2000:]}\n{stderr[-2000:]}")
    return seconds, peak[0]


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
    sides, whole, held = [[], []], [[], []], [[], []]
    for turn in range(args.rounds):
        for side, run in enumerate((pipe_side, torch_side)):
            more = lambda n: (f"{row}-{turn}-{n}",) if side == 0 else ()
            short, _ = run(args, name, settings, few, folder, *more(few)) if few else (0.0, 0.0)
            long, peak = run(args, name, settings, many, folder, *more(many))
            held[side].append(peak)
            sides[side].append((long - short) / (many - few))
            whole[side].append(long)
    ratios = [ours / theirs for ours, theirs in zip(*sides)]
    ours, theirs, ratio = (statistics.median(values) for values in (*sides, ratios))
    print(f"| {what} | {ours:.3f} s | {theirs:.3f} s | **{ratio:.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) | ≤ {bar:.2f} |", flush=True)
    two = whole if name == "inference" else held
    ours, theirs, ratio = (statistics.median(values) for values in (*two, [a / b for a, b in zip(*two)]))
    if name == "inference":
        return f"{row}, {many} images with start-up: {ours:.1f} s, {theirs:.1f} s, ratio {ratio:.2f}"
    return f"{row}, peak of memory: {ours:.2f} GiB, {theirs:.2f} GiB, ratio {ratio:.2f} (bar 0.75)"


def said(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def measure_coco(args, row, folder):
    what, files, libraries = COCO_ROWS[row]
    for library, bar in libraries.items():
        rounds = [
            (said([args.coco_bench, *files], folder), said([args.python, HERE / "coco.py", library, *files], folder))
            for _ in range(args.rounds)
        ]
        differ = max((abs(a - b) for pair in rounds for a, b in zip(pair[0]["stats"], pair[1]["stats"])), default=0.0)
        if differ > 1e-9:
            sys.exit(f"{row}: {library} has other numbers, by {differ:.1e}")
        ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in rounds]
        seconds, mib = ([statistics.median(side[key] for side in sides) for sides in zip(*rounds)] for key in ("seconds", "mib"))
        print(
            f"| {what} | {seconds[0]:.3f} s, {mib[0]:.0f} MiB | {library} | {seconds[1]:.2f} s, {mib[1]:.0f} MiB | **{statistics.median(ratios):.2f}×** "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | ≥ {bar} | 1/{mib[1] / mib[0]:.1f} | {differ:.0e} |",
            flush=True,
        )


def coco_rows(args, rows, folder):
    print(f"load before the start {os.getloadavg()[0]:.1f}, {args.rounds} rounds\n")
    if "coco-index" in rows:
        script = HERE.parents[1] / "scripts" / "big_annotations.py"
        subprocess.run([args.python, script, folder], check=True, stdout=subprocess.DEVNULL)
    if rows != ["coco-index"]:
        subprocess.run([args.python, HERE / "coco.py", "make", folder], check=True)
    print("| | here | | there | as fast | bar | memory | numbers differ by |\n|---|---|---|---|---|---|---|---|", flush=True)
    for row in rows:
        measure_coco(args, row, folder)


def measure_other(args, row):
    root = HERE.parents[1]
    standstill = [root / "scripts/gpu_suite.py", "--pipe", args.pipe, "--coco", args.coco, "--device", "cpu", "--small", "--only", "standstill"]
    command = {
        "loader": ["cargo", "bench", "--quiet", "--bench", "loader"],
        "engine": [args.python, root / "scripts/engine_overhead.py"],
        "checkpoint": [args.python, *standstill],
    }[row]
    # The allocator's settings are those of src/main.rs, which a bench has not.
    settings = {"MALLOC_CONF": "thp:always,narenas:2,dirty_decay_ms:-1"} if row == "loader" else {}
    environment = os.environ | settings | {"PIPE_BENCH_PYTHON": str(args.python), "PIPE_BENCH_COCO": str(args.coco)}
    print(f"\n{row}, load before the start {os.getloadavg()[0]:.1f}", flush=True)
    subprocess.run(command, cwd=root, env=environment, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", type=Path, default=Path("target/release/pipe"))
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--coco", type=Path, help="a COCO folder with train2017 and its instances")
    parser.add_argument("--coco-bench", type=Path, default=Path("target/release/examples/coco_bench"))
    every = [*ROWS, *COCO_ROWS, *OTHERS]
    parser.add_argument("--row", nargs="+", choices=every, default=every)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.pipe, args.coco_bench, args.python = args.pipe.absolute(), args.coco_bench.absolute(), args.python.absolute()
    rows, of_coco, others = ([row for row in args.row if row in known] for known in (ROWS, COCO_ROWS, OTHERS))
    if (rows or others) and not args.coco:
        parser.error("--coco is needed but for the rows coco-…")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if of_coco:
            coco_rows(args, of_coco, folder)
        args.coco = args.coco and args.coco.resolve()
        for row in others:
            measure_other(args, row)
        if not rows:
            return
        subprocess.run([args.python, HERE / "classification.py", folder, "make"], check=True)
        for name, data in (("detection", args.coco), ("inference", args.coco / "val2017")):
            weights = folder / f"{name}.pth"
            for _, of_row, settings, *_ in ROWS.values():
                if of_row == name:
                    settings["weights"] = str(weights)
            if any(ROWS[row][1] == name for row in rows):
                make = [args.python, HERE / f"{name}.py", data, "make", f"weights={weights}"]
                subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        load = os.getloadavg()[0]
        print(f"load before the start {load:.1f}, {args.rounds} rounds\n")
        print("| one iteration | `pipe` | torch | ratio | bar |\n|---|---|---|---|---|", flush=True)
        notes = [measure(args, row, folder) for row in rows]
        print("", *filter(None, notes), sep="\n")


main()
