#!/usr/bin/env python3
"""Times what a developer waits for: python3 scripts/build_times.py [CHECKOUT] [--steps fresh,component,…]

Each step prints one line of a Markdown table. An edit puts a statement into a function's body, so that the code really
changes, and is taken back afterwards. The checkout needs its libtorch (`cargo xtask setup`); nothing else may run beside it.

  fresh      `cargo build` with an empty target folder: dependencies, torch-sys, the program
  component  an edit in one component, then `cargo build`
  document   an edit in the document phase, then its tests
  plan       an edit in the plan phase, then its tests
  test       an edit in one component, then all tests built (`cargo test --no-run`)
"""

import os
import pathlib
import re
import subprocess
import sys
import time

BODY = re.compile(r"^    (?:pub(?:\([a-z]+\))? )?fn \w+[^;{]*\{\n", re.MULTILINE)


def main():
    arguments = sys.argv[1:]
    steps = ["fresh", "component", "document", "plan", "test"]
    if "--steps" in arguments:
        at = arguments.index("--steps")
        steps = arguments[at + 1].split(",")
        del arguments[at : at + 2]
    root = pathlib.Path(arguments[0] if arguments else ".").resolve()
    # Before the workspace was split, all was one crate with filters of its tests.
    split = (root / "crates/document").is_dir()
    tests = {
        "document": ["-p", "pipe-document"] if split else ["--lib", "document::"],
        "plan": ["-p", "pipe-plan"] if split else ["--lib", "plan::"],
    }
    files = {
        "component": find(root, "optimizer/sgd.rs"),
        "document": find(root, "document/**/vars.rs") if split else root / "src/document/vars.rs",
        "plan": find(root, "plan/**/lower.rs") if split else root / "src/plan/lower.rs",
    }
    print("| step | seconds | command |\n|---|---:|---|")
    for step in steps:
        if step == "fresh":
            fresh = {"CARGO_TARGET_DIR": str(root / "target/build_times")}
            subprocess.run(["rm", "-rf", fresh["CARGO_TARGET_DIR"]], check=True)
            timed(root, step, ["build"], fresh | {"CARGO_BUILD_BUILD_DIR": fresh["CARGO_TARGET_DIR"]})
            subprocess.run(["rm", "-rf", fresh["CARGO_TARGET_DIR"]], check=True)
        elif step == "component":
            edited(root, step, files[step], ["build"], ["build"])
        elif step == "test":
            command = ["test", "--workspace", "--no-run"]
            edited(root, step, files["component"], command, command)
        else:
            command = ["test", *tests[step]]
            edited(root, step, files[step], command, command)


def find(root, pattern):
    found = [path for path in sorted(root.glob("**/" + pattern)) if "target" not in path.parts]
    if not found:
        sys.exit(f"no file {pattern} in {root}")
    return found[0]


def edited(root, step, file, before, command):
    """What `command` takes after an edit of `file`, everything having been built before."""
    former = file.read_text()
    place = BODY.search(former)
    if place is None:
        sys.exit(f"no function to edit in {file}")
    run(root, before, {})
    times = []
    try:
        for number in range(3):
            statement = f"        std::hint::black_box({number}_u32);\n"
            file.write_text(former[: place.end()] + statement + former[place.end() :])
            times.append(run(root, command, {}))
    finally:
        file.write_text(former)
    report(step, sorted(times)[1], f"edit {file.relative_to(root)}; cargo {' '.join(command)} (median of 3)")


def timed(root, step, command, variables):
    report(step, run(root, command, variables), f"cargo {' '.join(command)}, empty target folder")


def run(root, command, variables):
    libtorch = root / ".libtorch/torch"
    environment = {"LD_LIBRARY_PATH": str(libtorch / "lib")}
    if not (root / ".cargo/libtorch.toml").exists():
        environment["LIBTORCH"] = str(libtorch.resolve())
    start = time.monotonic()
    done = subprocess.run(
        ["cargo", *command, "--quiet"], cwd=root, env=os.environ | environment | variables, capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(f"cargo {' '.join(command)} failed\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return time.monotonic() - start


def report(step, seconds, command):
    print(f"| {step} | {seconds:.1f} | `{command}` |", flush=True)


if __name__ == "__main__":
    main()
