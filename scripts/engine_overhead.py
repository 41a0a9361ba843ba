#!/usr/bin/env python3
"""The cost of an iteration that does nothing, with ten handlers that do nothing, here and in PyTorch-Ignite:
python3 scripts/engine_overhead.py (a Python with torch and pytorch-ignite; run from the checkout)."""

import subprocess
import time

import ignite
from ignite.engine import Engine, Events

EPOCHS, ITERATIONS, HANDLERS, ROUNDS = 2, 10_000, 10, 5


def of_ignite():
    engine = Engine(lambda engine, batch: None)
    for _ in range(HANDLERS):
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: None)
    began = time.perf_counter()
    engine.run(range(ITERATIONS), max_epochs=EPOCHS)
    return (time.perf_counter() - began) * 1e6 / (EPOCHS * ITERATIONS)


def of_pipe():
    command = ["cargo", "run", "--quiet", "--release", "-p", "pipe-run", "--example", "engine_overhead"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


of_pipe()  # builds it
rounds = [(of_pipe(), of_ignite()) for _ in range(ROUNDS)]
print(f"| round | pipe, µs | Ignite {ignite.__version__}, µs | ratio |\n|---:|---:|---:|---:|")
for number, (ours, theirs) in enumerate(rounds, 1):
    print(f"| {number} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.3f} |")
