"""Running averages and epoch means by Ignite, for crates/components/src/metric.

    python3 tests/parity/metric/running.py

Needs torch 2.11 and pytorch-ignite 0.5. Writes running.json beside itself: the average after each iteration of an engine.
"""

import json
import math
import pathlib

from ignite.engine import Engine, Events
from ignite.metrics import Average, RunningAverage
from ignite.metrics.metric import RunningBatchWise, SingleEpochRunningBatchWise

EPOCH_LENGTH = 6
LOSSES = [2.0 / (1 + 0.3 * i) + 0.25 * math.sin(5.0 * i) for i in range(4 * EPOCH_LENGTH)]
SIZES = [16 if (i + 1) % EPOCH_LENGTH else 5 for i in range(len(LOSSES))]


def averages(alpha, usage):
    engine = Engine(lambda engine, batch: LOSSES[engine.state.iteration - 1])
    RunningAverage(output_transform=lambda loss: loss, alpha=alpha).attach(engine, "average", usage)
    seen = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(engine.state.metrics["average"]))
    engine.run([0] * EPOCH_LENGTH, max_epochs=len(LOSSES) // EPOCH_LENGTH)
    return seen


def epoch_means():
    """Ignite's Average over samples: each batch counts as often as it has samples."""
    means, metric = [], Average()
    for i, (loss, size) in enumerate(zip(LOSSES, SIZES)):
        for _ in range(size):
            metric.update(loss)
        if (i + 1) % EPOCH_LENGTH == 0:
            means.append(float(metric.compute()))
            metric.reset()
    return means


def main():
    usages = ((False, RunningBatchWise()), (True, SingleEpochRunningBatchWise()))
    cases = [
        {"alpha": alpha, "single_epoch": single, "averages": averages(alpha, usage)}
        for alpha in (0.98, 0.5)
        for single, usage in usages
    ]
    data = {
        "epoch_length": EPOCH_LENGTH, "losses": LOSSES, "sizes": SIZES, "cases": cases, "epoch_means": epoch_means(),
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in data.items()]
    pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
