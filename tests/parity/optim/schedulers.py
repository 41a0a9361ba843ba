"""Learning rates of torch's and Ignite's schedulers over 100 steps, for crates/components/src/scheduler.

    python3 tests/parity/optim/schedulers.py

Needs torch 2.11 and pytorch-ignite 0.5. Writes schedulers.json beside itself.
"""

import json
import math
import pathlib
import warnings

import torch
from ignite.handlers import ConcatScheduler, CosineAnnealingScheduler, LinearCyclicalScheduler, PiecewiseLinear
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


def of_ignite(lr, table, make, setting="lr"):
    """What Ignite's scheduler makes of a setting."""
    sgd = torch.optim.SGD([torch.zeros(1, dtype=torch.float64)], lr=lr, momentum=0.9, weight_decay=0.01)
    scheduler = make(sgd, setting)
    values = []
    for _ in range(STEPS):
        scheduler(None)
        values.append(sgd.param_groups[0][setting])
    out = {"lr": lr, "schedulers": [{"target": f"optimizer.o:{setting}", **table}], "lrs": values}
    return out if setting == "lr" else {**out, "setting": setting}


def cosine_cycles(lr, low, high, size, setting="lr", **mults):
    names = {"start_value_mult": "base_mult", "end_value_mult": "max_mult"}
    table = {
        "type": "cyclical", "base_lr": low, "max_lr": high, "step_size_up": size, "step_size_down": 0,
        "anneal_strategy": "cos",
        "cycle_momentum": False, **{names.get(name, name): value for name, value in mults.items()},
    }
    return of_ignite(lr, table, lambda o, name: CosineAnnealingScheduler(o, name, low, high, size, **mults), setting)


def cyclic(lr, **options):
    table = {"type": "cyclical", **{name: value for name, value in options.items()}}
    return case(lr, [table], lambda o: [lrs.CyclicLR(o, **{"base_lr": lr, **options})], momenta=True)


def chain_of_ignite(setting, high):
    parts = [
        {"type": "piecewise_linear", "points": [[0, high / 10], [20, high]]},
        {"type": "cyclical", "base_lr": high, "max_lr": high / 2, "step_size_up": 10, "cycle_momentum": False},
        {"type": "cyclical", "base_lr": high, "max_lr": 0.0, "step_size_up": 60, "step_size_down": 0,
         "anneal_strategy": "cos", "cycle_momentum": False},
    ]
    table = {"type": "concatenated", "schedulers": parts, "durations": [20, 40]}
    return of_ignite(
        0.1,
        table,
        lambda o, name: ConcatScheduler(
            schedulers=[
                PiecewiseLinear(o, name, milestones_values=[(0, high / 10), (20, high)]),
                LinearCyclicalScheduler(o, name, high, high / 2, 20),
                CosineAnnealingScheduler(o, name, high, 0.0, 60),
            ],
            durations=[20, 40],
        ),
        setting,
    )


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
        "cyclical": cyclic(0.01, max_lr=0.1, step_size_up=13),
        "cyclical_uneven_halved": cyclic(0.01, max_lr=0.1, step_size_up=7, step_size_down=16, mode="triangular2"),
        "cyclical_falling": cyclic(
            0.01, max_lr=0.1, step_size_up=11, mode="exp_range", gamma=0.97, base_momentum=0.7, max_momentum=0.95
        ),
        "cyclical_lr_only": cyclic(0.01, base_lr=0.002, max_lr=0.05, step_size_up=20, cycle_momentum=False),
        "cosine_cycles": cosine_cycles(0.01, 0.01, 0.1, 26),
        "cosine_cycles_longer": cosine_cycles(
            0.01, 0.1, 0.01, 10, cycle_mult=1.5, start_value_mult=0.8, end_value_mult=0.5
        ),
        "cosine_cycles_of_weight_decay": cosine_cycles(0.01, 0.04, 0.2, 40, "weight_decay"),
        "cosine_cycles_of_momentum": cosine_cycles(0.01, 0.95, 0.85, 30, "momentum"),
        "concatenated_ignite": chain_of_ignite("lr", 0.2),
        "concatenated_ignite_of_weight_decay": chain_of_ignite("weight_decay", 0.05),
        "concatenated_torch": case(
            0.1,
            [
                {
                    "type": "concatenated", "durations": [25, 40],
                    "schedulers": [
                        {"type": "linear_warmup", "iterations": 25, "start_factor": 0.1},
                        {"type": "cosine", "t_max": 40, "eta_min": 0.01},
                        {"type": "exponential", "gamma": 0.9},
                    ],
                }
            ],
            lambda o: [
                lrs.SequentialLR(
                    o,
                    [
                        lrs.LinearLR(o, 0.1, total_iters=25), lrs.CosineAnnealingLR(o, 40, 0.01),
                        lrs.ExponentialLR(o, 0.9),
                    ],
                    [25, 65],
                )
            ],
        ),
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
