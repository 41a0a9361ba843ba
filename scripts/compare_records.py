#!/usr/bin/env python3
"""Runs two builds of pipe over the shipped demos and compares what they record, number by number.

    python3 scripts/compare_records.py OLD_PIPE OLD_CHECKOUT NEW_PIPE NEW_CHECKOUT

Each build runs the pipelines of its own checkout on the CPU: the demo of digits, the first hundred steps of the demo of shapes,
a run of digits that is left after two epochs and resumed, and one whose file is edited twice under --watch: the edits are of
the kind that waits for the next epoch, so that the clock has no say in where they take effect. The scalars of the two builds must be equal as (step, value) under
the table of tags below, bit for bit. Libraries are found by the caller's LD_LIBRARY_PATH.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

# How tags were called before they began with train/ and val/; maskrcnn_coco.toml keeps those of losses and learning rate.
TAGS = [
    (re.compile(r"^loss/total_loss$"), "train/loss"),
    (re.compile(r"^loss/(.+)$"), r"train/\1"),
    (re.compile(r"^learning rate/lr$"), "train/lr"),
    (re.compile(r"^(accuracy|loss|coco/.+|confusion/.+|precision/.+|recall/.+)$"), r"val/\1"),
]

DIGITS = ["pipelines/mnist.toml", "--profile", "demo"]
SHAPES = ["pipelines/maskrcnn_coco.toml", "--profile", "demo"]


def main(old, old_checkout, new, new_checkout):
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, lives in {
            "demo of digits": [DIGITS],
            "demo of shapes, first 100 steps": [
                [*SHAPES, "--set", "engine.trainer.max_iterations=100", "--set", "engine.trainer.log_interval=1"]
            ],
            "digits, resumed after two epochs": [
                [*DIGITS, "--set", "engine.trainer.max_epochs=2"],
                [*DIGITS, "--set", "engine.trainer.max_epochs=4", "--resume", "RUN"],
            ],
        }.items():
            runs = []
            for which, program, checkout in (("old", old, old_checkout), ("new", new, new_checkout)):
                out = pathlib.Path(folder) / f"{which}-{name.split(',')[0].replace(' ', '-')}-{len(lives)}"
                for arguments in lives:
                    run(program, checkout, [str(out) if word == "RUN" else word for word in arguments], out)
                runs.append(scalars(out, renamed=which == "old"))
            wrong += compare(name, *runs)
        runs = []
        for which, program, checkout in (("old", old, old_checkout), ("new", new, new_checkout)):
            out = pathlib.Path(folder) / f"{which}-edited"
            edited(program, checkout, out)
            runs.append(scalars(out, renamed=which == "old"))
        wrong += compare("digits, edited in epochs 1 and 2", *runs)
    return 1 if wrong else 0


def run(program, checkout, arguments, out):
    command = [program, "run", *arguments, "--device", "cpu", "--quiet", "--out", str(out)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")


# (epoch in which the file is saved, text, what it becomes)
EDITS = [
    (1, "batch_size = 8\n", "batch_size = 16\n"),
    (2, 'split = "train"\n', 'split = "train"\nlimit = 3000\n'),
]


def edited(program, checkout, out):
    """A run whose file is edited in the middle of epochs."""
    text = (pathlib.Path(checkout) / "pipelines/mnist.toml").read_text().replace("batch_size = 64\n", "batch_size = 8\n")
    text = text.replace("log_interval = 50", "log_interval = 10")
    file = out.with_suffix(".toml")
    file.write_text(text)
    command = [program, "run", str(file), "--profile", "demo", "--watch", "--device", "cpu", "--quiet", "--out", str(out)]
    running = subprocess.Popen(command, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for epoch, before, after in EDITS:
        while running.poll() is None and epochs(out) < epoch:
            time.sleep(0.05)
        text = text.replace(before, after, 1)
        file.write_text(text)
    if running.wait() != 0:
        sys.exit(f"{' '.join(command)}\n{running.stderr.read()[-3000:]}")
    lines = [json.loads(line) for line in (out / "pipelines/index.jsonl").read_text().splitlines()]
    seen = [line["epoch"] for line in lines if line["outcome"] == "applied"]
    if seen != [epoch for epoch, _, _ in EDITS]:
        sys.exit(f"the edits came in epochs {seen}: the machine is too slow or too fast for this comparison")


def epochs(out):
    """The epoch of the last whole record."""
    try:
        lines = (out / "records.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    return max((json.loads(line).get("epoch", 0) for line in lines if line.endswith("\n")), default=0)


def scalars(out, renamed):
    """The values by tag and step; the last where a step has several."""
    found = {}
    for line in (out / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "scalar":
            tag = record["tag"]
            if renamed:
                tag = next((old.sub(new, tag) for old, new in TAGS if old.match(tag)), tag)
            found.setdefault(tag, {}).setdefault(record["step"], []).append(record["value"])
    return found


def compare(name, old, new):
    # The pipeline of the article names its own tags as they were.
    new = {**{next((o.sub(n, tag) for o, n in TAGS[:3] if o.match(tag)), tag): values for tag, values in new.items()}}
    different = []
    for tag in sorted(old.keys() | new.keys()):
        before, after = old.get(tag, {}), new.get(tag, {})
        steps = [step for step in sorted(before.keys() | after.keys()) if before.get(step) != after.get(step)]
        if steps:
            different.append(f"  {tag}: {len(steps)} of {len(before)} steps, first {steps[0]}: "
                             f"{before.get(steps[0])} -> {after.get(steps[0])}")
    count = sum(len(values) for by_step in old.values() for values in by_step.values())
    print(f"{name}: {len(old)} tags, {count} values, {'equal' if not different else 'DIFFERENT'}")
    print("\n".join(different), end="\n" if different else "")
    return len(different)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
