#!/usr/bin/env python3
"""Three processes under torchrun's own agents, of which one is killed: the two that are left go on from the last checkpoint.

    python elastic.py PIPE        a Python with torch; `cargo xtask soak elastic --python EXE` calls it

Each agent stands for a machine (`--nnodes 2:3`), with one process of the run. Ends with an error where the run does not come to its end, a step
is missing or there twice, or the numbers of images seen are not those of a run that nothing happened to.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

EPOCHS = 40
PIPELINE = f"""
extends = "digits.toml"

# Without what is drawn by each process for itself.
[model.net]
layers = [{{ type = "flatten" }}, {{ type = "linear", in_features = 784, out_features = 10 }}]

[loader.train]
batch_size = 12

[engine.trainer]
max_epochs = {EPOCHS}
log_interval = 1

[handler.checkpoint]
type = "checkpoint"
keep_last = 2

[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.checkpoint"]
"""


def wait(what, come, seconds=300):
    start = time.monotonic()
    while not come():
        if time.monotonic() - start > seconds:
            sys.exit(f"{what} did not come within {seconds} s")
        time.sleep(0.05)


def agent(pipe, folder, port, number):
    """That of a machine: it restarts its process when another is lost, with those that are left."""
    command = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--nnodes", "2:3", "--nproc-per-node", "1", "--max-restarts", "3"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "soak", "--local-addr", "localhost"]
    # All are of one host's name: without being told, whichever comes first would have the store, and might be the one to be killed.
    command += ["--rdzv-conf", f"is_host={int(number == 0)},last_call_timeout=3,join_timeout=120"]
    command += [pipe, "run", "elastic.toml", "--resume", "auto", "--out", "run", "--quiet"]
    log = open(folder / f"agent{number}.log", "w")
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)


def losses(folder, run):
    """The loss after each step, in the order of the records."""
    records = map(json.loads, (folder / run / "records.jsonl").read_text().splitlines())
    return [(r["step"], r["value"]) for r in records if r["kind"] == "scalar" and r["tag"] == "train/loss"]


def machine(one):
    """An agent and the process that it has started, which leads a session of its own."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(one.pid)], capture_output=True, text=True).stdout.split()
    return [one.pid, *map(int, children)]


def compare(folder):
    """What the run left, beside one that nothing happened to."""
    info = json.loads((folder / "run/run.json").read_text())
    assert info["status"] == "done" and len(info["earlier"]) == 1, info
    assert "another rank is gone" in info["earlier"][0]["error"], info["earlier"]
    assert not (folder / "run/ranks/3").exists()
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    subprocess.run([sys.argv[1], "run", "elastic.toml", "--out", "alone", "--quiet"], cwd=folder, env=environment, check=True)
    ours, theirs = losses(folder, "run"), losses(folder, "alone")
    assert [step for step, _ in ours] == [step for step, _ in theirs], "a step is missing, or there twice"
    gap = max(abs(a - b) / max(abs(b), 1e-3) for (_, a), (_, b) in zip(ours, theirs))
    assert gap < 1e-3, f"the losses are {gap:.1e} apart"
    print(f"{len(ours)} steps, resumed from {info['resumed_from']}; the losses are at most {gap:.1e} from those of one process")


def main():
    sys.argv[1] = os.path.abspath(sys.argv[1])
    root = pathlib.Path(__file__).resolve().parents[3]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "digits.toml").write_text((root / "tests/it/digits.toml").read_text())
        (folder / "elastic.toml").write_text(PIPELINE)
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        agents = [agent(sys.argv[1], folder, port, number) for number in range(3)]
        try:
            kept = folder / "run/checkpoints"
            wait("a checkpoint", lambda: kept.is_dir() and len(list(kept.glob("step_*"))) > 1)
            for process in machine(agents[2]):
                os.kill(process, signal.SIGKILL)
            killed = time.monotonic()
            wait("the end", lambda: all(one.poll() is not None for one in agents[:2]))
            print(f"of three machines one was killed; the run of the other two ended {time.monotonic() - killed:.0f} s later")
            assert [one.returncode for one in agents[:2]] == [0, 0], "an agent failed"
            compare(folder)
        except BaseException:
            for number in range(3):
                print(f"--- agent {number}\n", (folder / f"agent{number}.log").read_text()[-3000:])
            raise
        finally:
            for process in [process for one in agents if one.poll() is None for process in machine(one)]:
                os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
