"""Errors by Ignite and scikit-learn, for crates/components/src/metric/regression.rs.

    python3 tests/parity/metric/regression.py

Needs torch 2.11, pytorch-ignite 0.5 and scikit-learn 1.9. Writes regression.json beside itself. Ignite's numbers are of one number
a sample; of several, the mean over them is scikit-learn's.
"""

import json
import pathlib

import numpy as np
import torch
from ignite import metrics as m
from ignite.metrics.regression import R2Score
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score


def case(prediction, target):
    mse = mean_squared_error(target, prediction)
    values = [mean_absolute_error(target, prediction), mse, mse**0.5, r2_score(target, prediction)]
    # Ignite's R2Score subtracts sums of squares, which cancel where the mean is large.
    if target.ndim == 1 and len(set(target)) > 1 and abs(target.mean()) < 10:
        of_ignite = []
        for metric in (m.MeanAbsoluteError(), m.MeanSquaredError(), m.RootMeanSquaredError(), R2Score()):
            metric.update((torch.tensor(prediction), torch.tensor(target)))
            of_ignite.append(float(metric.compute()))
        assert np.allclose(of_ignite, values, rtol=1e-5), (of_ignite, values)
    return {"prediction": prediction.tolist(), "target": target.tolist(), "values": values}


def main():
    random = np.random.default_rng(5)

    # Multiples of 1/64, which floats hold exactly.
    def numbers(*shape):
        return np.round(random.normal(size=shape) * 64) / 64

    target, wide = numbers(30), numbers(25, 3)
    cases = [
        case(target + numbers(30) / 4, target),
        case(wide + numbers(25, 3), wide),
        case(4096.0 + target + np.round(numbers(30) * 8) / 64, 4096.0 + target),
        case(np.full(10, 2.5), np.full(10, 2.0)),
        case(np.full(10, 2.0), np.full(10, 2.0)),
    ]
    lines = ",\n".join(json.dumps(one) for one in cases)
    pathlib.Path(__file__).with_suffix(".json").write_text('{"cases": [\n' + lines + "\n]}\n")


main()
