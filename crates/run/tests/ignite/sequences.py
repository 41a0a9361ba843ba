#!/usr/bin/env python3
"""The order in which PyTorch-Ignite fires its events, in scripted runs: python3 sequences.py > sequences.json

Each run has a trainer over `batches` batches; `act` is what a handler does at an event's nth occurrence.
"""

import json
import logging
import warnings

import ignite
from ignite.engine import Engine, Events

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

NAMES = {
    "started": Events.STARTED,
    "epoch_started": Events.EPOCH_STARTED,
    "get_batch_started": Events.GET_BATCH_STARTED,
    "get_batch_completed": Events.GET_BATCH_COMPLETED,
    "iteration_started": Events.ITERATION_STARTED,
    "iteration_completed": Events.ITERATION_COMPLETED,
    "dataloader_stop_iteration": Events.DATALOADER_STOP_ITERATION,
    "exception_raised": Events.EXCEPTION_RAISED,
    "terminate_single_epoch": Events.TERMINATE_SINGLE_EPOCH,
    "epoch_completed": Events.EPOCH_COMPLETED,
    "terminate": Events.TERMINATE,
    "completed": Events.COMPLETED,
}

RUNS = [
    {"name": "two epochs", "batches": 3, "max_epochs": 2},
    {"name": "one batch", "batches": 1, "max_epochs": 3},
    {"name": "short epochs", "batches": 5, "epoch_length": 2, "max_epochs": 4},
    {"name": "long epochs", "batches": 2, "epoch_length": 3, "max_epochs": 3},
    {"name": "so many iterations", "batches": 3, "max_iterations": 5},
    {"name": "data of unknown length", "batches": 3, "max_epochs": 2, "unknown": True},
    {"name": "a nested engine", "batches": 2, "max_epochs": 2, "act": ["epoch_completed", 1, "evaluate"]},
    {"name": "an error in the work", "batches": 3, "max_epochs": 2, "act": ["work", 4, "raise"]},
    {"name": "an error in a handler", "batches": 3, "max_epochs": 2, "act": ["iteration_completed", 2, "raise"]},
]
for event in ["started", "epoch_started", "get_batch_started", "get_batch_completed", "iteration_started",
              "iteration_completed", "epoch_completed", "completed"]:
    RUNS.append({"name": f"terminated at {event}", "batches": 3, "max_epochs": 3, "act": [event, 1, "terminate"]})
for event in ["get_batch_started", "get_batch_completed", "iteration_started", "iteration_completed"]:
    RUNS.append({"name": f"epoch ended at {event}", "batches": 3, "max_epochs": 2, "act": [event, 2, "terminate_epoch"]})


def sequence(run):
    log, seen = [], {}
    at, nth, what = run.get("act", [None, 0, None])

    def act(engine, event):
        seen[event] = seen.get(event, 0) + 1
        if event != at or seen[event] != nth:
            return
        if what == "terminate":
            engine.terminate()
        elif what == "terminate_epoch":
            engine.terminate_epoch()
        elif what == "evaluate":
            evaluator = Engine(lambda engine, batch: log.append("evaluator work"))
            listen(evaluator, "evaluator ")
            evaluator.run(range(2))
        elif what == "raise":
            raise RuntimeError("asked for")

    def work(engine, batch):
        log.append(f"work {engine.state.iteration}")
        act(engine, "work")

    def listen(engine, prefix):
        for name, event in NAMES.items():
            def note(engine, *_, name=name, **__):
                log.append(f"{prefix}{name} {engine.state.epoch} {engine.state.iteration}")
                if not prefix:
                    act(engine, name)
            engine.add_event_handler(event, note)

    engine = Engine(work)
    listen(engine, "")
    count = run["batches"]
    data = iter_of(count) if run.get("unknown") else range(count)
    try:
        engine.run(data, max_epochs=run.get("max_epochs"), max_iters=run.get("max_iterations"),
                   epoch_length=run.get("epoch_length"))
    except RuntimeError:
        log.append("raised")
    return log


class iter_of:
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(range(self.count))


print(json.dumps({"ignite": ignite.__version__, "runs": [{**run, "sequence": sequence(run)} for run in RUNS]}, indent=1))
