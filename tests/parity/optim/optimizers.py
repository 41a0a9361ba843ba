"""Parameters under torch's optimizers and schedulers, for crates/components/src/optimizer.

    python3 tests/parity/optim/optimizers.py

Needs torch 2.11. Writes optimizers.json beside itself: parameters after chosen steps of a small problem, in double
precision, since momentum lets rounding errors of floats grow past the tolerance within 100 steps. A bias joins late, so
that it has no gradient in the first three steps (torch's fused SGD does not take that; its plain form does).
"""

import json
import math
import pathlib
import warnings

import torch
from torch.optim import lr_scheduler as lrs

warnings.filterwarnings("ignore")
KEPT = (1, 2, 4, 5, 20, 50, 100)


def wave(count, shape, phase):
    values = torch.sin(torch.arange(count, dtype=torch.float64) * 0.7 + phase)
    return values.view(shape).requires_grad_(True)


def case(kind, options, groups=None, tables=(), make=lambda _: []):
    w1, w2, bias = wave(6, (2, 3), 0.3), wave(6, (3, 2), 1.1), wave(2, (2,), 2.0)
    params = groups(w1, w2, bias) if groups else [w1, w2, bias]
    optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind]
    given = {name: value for name, value in options.items() if name not in ("groups", "no_weight_decay")}
    optimizer = optimizer(params, fused=kind != "sgd", **given)
    schedulers = make(optimizer)
    kept = {}
    y = torch.tensor([0.5, -0.25], dtype=torch.float64)
    for step in range(100):
        optimizer.zero_grad()
        x = torch.cos(torch.tensor([1.0, 2.0], dtype=torch.float64) + step * 0.5)
        out = w1.mv(w2.mv(x))
        if step >= 3:
            out = out + bias
        (0.5 * (out - y).square().sum()).backward()
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
        if step + 1 in KEPT:
            kept[str(step + 1)] = [v for p in (w1, w2, bias) for v in p.detach().flatten().tolist()]
            assert all(math.isfinite(v) for v in kept[str(step + 1)])
    return {
        "optimizer": {"type": kind, "model": "model.net", **options},
        "schedulers": [{"optimizer": "optimizer.o", **table} for table in tables],
        "params": kept,
    }


def main():
    warmup = {"type": "linear_warmup", "iterations": 30}
    cycle = {"max_lr": 0.05, "total_steps": 100}
    cases = {
        "sgd": case("sgd", {"lr": 0.05}),
        "sgd_decay": case("sgd", {"lr": 0.05, "weight_decay": 0.1}),
        "sgd_momentum": case("sgd", {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.01}),
        "sgd_nesterov": case("sgd", {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        "sgd_dampening": case("sgd", {"lr": 0.05, "momentum": 0.8, "dampening": 0.4}),
        "adam": case("adam", {}),
        "adam_decay": case("adam", {"lr": 0.01, "betas": [0.8, 0.99], "eps": 1e-6, "weight_decay": 0.1}),
        "adam_amsgrad": case("adam", {"lr": 0.02, "amsgrad": True}),
        "adamw": case("adamw", {"lr": 0.01}),
        "adamw_amsgrad": case("adamw", {"lr": 0.01, "weight_decay": 0.2, "amsgrad": True}),
        "sgd_groups": case(
            "sgd",
            {
                "lr": 0.02, "momentum": 0.8, "weight_decay": 0.1,
                "groups": [{"match": "w2", "lr_scale": 0.1, "weight_decay": 0.02}], "no_weight_decay": ["bias"],
            },
            groups=lambda w1, w2, bias: [
                {"params": [w1]},
                {"params": [bias], "weight_decay": 0.0},
                {"params": [w2], "lr": 0.02 * 0.1, "weight_decay": 0.02},
            ],
        ),
        "sgd_warmup_multistep": case(
            "sgd",
            {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.001},
            tables=[warmup, {"type": "multistep", "milestones": [50, 80]}],
            make=lambda o: [lrs.LinearLR(o, 1 / 1000, total_iters=30), lrs.MultiStepLR(o, [50, 80])],
        ),
        "adamw_one_cycle": case(
            "adamw",
            {"lr": 0.01},
            tables=[{"type": "one_cycle", **cycle}],
            make=lambda o: [lrs.OneCycleLR(o, **cycle)],
        ),
        "sgd_one_cycle": case(
            "sgd",
            {"lr": 0.01, "momentum": 0.9},
            tables=[{"type": "one_cycle", **cycle}],
            make=lambda o: [lrs.OneCycleLR(o, **cycle)],
        ),
    }
    path = pathlib.Path(__file__).with_suffix(".json")
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in cases.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
