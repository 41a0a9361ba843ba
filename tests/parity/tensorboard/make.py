"""Makes `histograms.json` and `pr_curves.json` beside this file with torch.utils.tensorboard.

    python3 tests/parity/tensorboard/make.py

Needs torch, numpy and tensorboard. Inputs are float32, written as exact doubles; doubles that a test
compares bit by bit are strings, because not every JSON reader rounds correctly. The cases are the same on every run.
"""

import json
import pathlib
import tempfile

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import compute_curve, make_histogram

HERE = pathlib.Path(__file__).parent


def default_bins():
    """The writer makes them in its constructor, which needs a folder."""
    with tempfile.TemporaryDirectory() as folder, SummaryWriter(folder) as writer:
        return writer.default_bins


def histogram_inputs():
    rng = np.random.default_rng(7)
    return {
        "normal": rng.normal(size=300),
        "gradients": rng.normal(size=200) * 1e-6,
        "relu": np.maximum(rng.normal(size=100), 0),
        "wide": rng.choice([-1, 1], 150) * 10 ** rng.uniform(-14, 19, 150),
        "zeros": np.zeros(5),
        "one": np.array([0.25]),
        "negative": -rng.exponential(size=60),
        "below_first_edge": np.array([1e-13, -1e-13, 1e-12, -1e-12]),
        "beyond_last_edge": np.array([1e30, -1e30, 1.0, 9.9e19, -9.9e19, 1e20, -1e20]),
        "integers": np.arange(-10, 11),
    }


def histograms():
    bins = default_bins()
    cases = []
    for name, values in histogram_inputs().items():
        values = values.astype(np.float32)
        # SummaryWriter.add_histogram converts to float64 first.
        proto = make_histogram(values.astype(float), bins)
        cases.append(
            {
                "name": name,
                "values": values.astype(float).tolist(),
                "min": repr(proto.min),
                "max": repr(proto.max),
                "num": proto.num,
                "sum": repr(proto.sum),
                "sum_squares": repr(proto.sum_squares),
                "bucket_limits": [repr(limit) for limit in proto.bucket_limit],
                "bucket_counts": [int(count) for count in proto.bucket],
            }
        )
    return cases


def pr_curves():
    rng = np.random.default_rng(11)
    cases = []
    for thresholds in (2, 11, 127):
        labels = rng.random(80) < 0.4
        scores = np.clip(rng.normal(0.35 + 0.3 * labels, 0.25), 0, 1).astype(np.float32)
        scores[:2] = [0, 1]
        cases.append(
            {
                "thresholds": thresholds,
                "labels": labels.tolist(),
                "scores": scores.astype(float).tolist(),
                "rows": compute_curve(labels, scores, thresholds).tolist(),
            }
        )
    return cases


for name, cases in {"histograms": histograms(), "pr_curves": pr_curves()}.items():
    (HERE / f"{name}.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
