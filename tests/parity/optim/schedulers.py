"""Learning rates of torch's and Ignite's schedulers over 100 steps, for crates/components/src/scheduler.

    python3 tests/parity/optim/schedulers.py

Needs torch 2.11 and pytorch-ignite 0.5. Writes schedulers.json beside itself.
"""

import json
import math
import pathlib
import warnings

import torch
from ignite.handlers import PiecewiseLinear
from torch.optim import lr_scheduler as lrs

warnings.filterwarnings("ignore")
STEPS = 100


def optimizer(lr):
    return torch.optim.SGD([torch.zeros(1, dtype=torch.float64)], lr=lr, momentum=0.9)


def case(lr, tables, make, momenta=False, monitored=None):
    sgd = optimizer(lr)
    schedulers = make(sgd)
    out = {"lr": lr, "schedulers": [{"optimizer": "optimizer.o", **table} for table in tables], "lrs": []}
    cycled = []
    for step in range(STEPS):
        out["lrs"].append(sgd.param_groups[0]["lr"])
        cycled.append(sgd.param_groups[0]["momentum"])
        sgd.step()
        if step + 1 < STEPS:
            for scheduler in schedulers:
                scheduler.step(*([] if monitored is None else [monitored[step]]))
    if momenta:
        out["momenta"] = cycled
    if monitored is not None:
        out["monitored"] = monitored
    return out


def piecewise(lr, points):
    sgd = optimizer(lr)
    scheduler = PiecewiseLinear(sgd, "lr", milestones_values=[tuple(point) for point in points])
    rates = []
    for _ in range(STEPS):
        scheduler(None)
        rates.append(sgd.param_groups[0]["lr"])
    table = {"type": "piecewise_linear", "optimizer": "optimizer.o", "points": points}
    return {"lr": lr, "schedulers": [table], "lrs": rates}


def one_cycle(lr, **options):
    return case(lr, [{"type": "one_cycle", **options}], lambda o: [lrs.OneCycleLR(o, **options)], momenta=True)


def plateau(lr, monitored, **options):
    table = {"type": "plateau", "monitor": "metric.m:value", **options}
    return case(lr, [table], lambda o: [lrs.ReduceLROnPlateau(o, **options)], monitored=monitored)


def main():
    falling = [1.0 / (1 + 0.2 * i) + 0.05 * math.sin(3.0 * i) for i in range(STEPS)]
    rising = [1.0 - value for value in falling]
    warmup = {"type": "linear_warmup", "iterations": 30}
    cases = {
        "step": case(0.02, [{"type": "step", "step_size": 13, "gamma": 0.5}], lambda o: [lrs.StepLR(o, 13, 0.5)]),
        "multistep": case(
            0.1,
            [{"type": "multistep", "milestones": [16, 22, 22, 80]}],
            lambda o: [lrs.MultiStepLR(o, [16, 22, 22, 80])],
        ),
        "exponential": case(
            0.1, [{"type": "exponential", "gamma": 0.93}], lambda o: [lrs.ExponentialLR(o, 0.93)]
        ),
        "cosine": case(
            0.1, [{"type": "cosine", "t_max": 60, "eta_min": 0.001}], lambda o: [lrs.CosineAnnealingLR(o, 60, 0.001)]
        ),
        "cosine_warm_restarts": case(
            0.1,
            [{"type": "cosine_warm_restarts", "t_0": 7, "t_mult": 2, "eta_min": 0.001}],
            lambda o: [lrs.CosineAnnealingWarmRestarts(o, 7, 2, 0.001)],
        ),
        "cosine_warm_restarts_even": case(
            0.1,
            [{"type": "cosine_warm_restarts", "t_0": 9}],
            lambda o: [lrs.CosineAnnealingWarmRestarts(o, 9)],
        ),
        "polynomial": case(
            0.1,
            [{"type": "polynomial", "total_iters": 101, "power": 0.9}],
            lambda o: [lrs.PolynomialLR(o, 101, 0.9)],
        ),
        "linear_warmup": case(0.02, [warmup], lambda o: [lrs.LinearLR(o, 1 / 1000, total_iters=30)]),
        "warmup_multistep": case(
            0.02,
            [warmup, {"type": "multistep", "milestones": [20, 60, 80], "gamma": 0.1}],
            lambda o: [lrs.LinearLR(o, 1 / 1000, total_iters=30), lrs.MultiStepLR(o, [20, 60, 80], 0.1)],
        ),
        "warmup_exponential_step": case(
            0.02,
            [
                {**warmup, "start_factor": 0.25},
                {"type": "exponential", "gamma": 0.99},
                {"type": "step", "step_size": 40},
            ],
            lambda o: [
                lrs.LinearLR(o, 0.25, total_iters=30),
                lrs.ExponentialLR(o, 0.99),
                lrs.StepLR(o, 40),
            ],
        ),
        "one_cycle": one_cycle(0.04, max_lr=0.1, total_steps=100),
        "one_cycle_linear": one_cycle(
            0.04, max_lr=0.1, total_steps=101, anneal_strategy="linear", pct_start=0.23, div_factor=10.0,
            base_momentum=0.8, max_momentum=0.9,
        ),
        "one_cycle_three_phases": one_cycle(
            0.04, max_lr=0.1, total_steps=100, three_phase=True, pct_start=0.4, final_div_factor=100.0
        ),
        "one_cycle_lr_only": one_cycle(0.04, max_lr=0.1, total_steps=100, cycle_momentum=False),
        "piecewise": piecewise(0.3, [[5, 0.01], [20, 0.5], [21, 0.1], [70, 0.1], [90, 0.02]]),
        "plateau_min_rel": plateau(0.1, falling, mode="min", factor=0.5, patience=3, threshold=0.01),
        "plateau_max_rel": plateau(0.1, rising, mode="max", factor=0.3, patience=2, cooldown=4, threshold=0.02),
        "plateau_min_abs": plateau(
            0.1, falling, mode="min", factor=0.1, patience=2, threshold=0.03, threshold_mode="abs", min_lr=0.0003
        ),
        "plateau_max_abs": plateau(
            0.1, rising, mode="max", factor=0.2, patience=1, threshold=0.01, threshold_mode="abs", eps=1e-5
        ),
    }
    path = pathlib.Path(__file__).with_suffix(".json")
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in cases.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
