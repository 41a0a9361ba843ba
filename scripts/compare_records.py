#!/usr/bin/env python3
"""Runs two builds of pipe over the shipped demos and compares what they record, number by number.

    python3 scripts/compare_records.py OLD_PIPE OLD_CHECKOUT NEW_PIPE NEW_CHECKOUT

Each build runs the pipelines of its own checkout on the CPU: the demo of digits, the first hundred steps of the demo of shapes,
and a run of digits that is left after two epochs and resumed. The scalars of the two builds must be equal as (step, value) under
the table of tags below, bit for bit. Libraries are found by the caller's LD_LIBRARY_PATH.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

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
    return 1 if wrong else 0


def run(program, checkout, arguments, out):
    command = [program, "run", *arguments, "--device", "cpu", "--quiet", "--out", str(out)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")


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
