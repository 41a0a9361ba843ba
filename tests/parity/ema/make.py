"""Averages of weights by PyTorch-Ignite's EMAHandler, for crates/components/src/handler/ema.rs.

    python3 tests/parity/ema/make.py

Needs torch 2.11 and pytorch-ignite 0.5. Writes expected.json beside itself. The "training" sets the weights and statistics by
a formula: at iteration t (from 1) each is base + t * step + t % 3.
"""

import json
import pathlib

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler

BASE = {"weight": [0.0, 1.0], "bias": [0.5, -0.5], "running_mean": [0.0, 2.0], "running_var": [1.0, 3.0]}
STEP = {"weight": 0.25, "bias": -0.125, "running_mean": 0.5, "running_var": 0.0625}


def fill(net, t):
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name == "num_batches_tracked":
                tensor.fill_(t)
            else:
                tensor.copy_(torch.tensor(BASE[name]) + t * STEP[name] + t % 3)


def run(handle_buffers, **options):
    net = torch.nn.BatchNorm1d(2)
    fill(net, 0)
    handler = EMAHandler(net, handle_buffers=handle_buffers, **options)
    engine = Engine(lambda engine, _: fill(net, engine.state.iteration))
    handler.attach(engine, event=Events.ITERATION_COMPLETED)
    averages = []

    @engine.on(Events.ITERATION_COMPLETED)
    def note(_):
        averages.append({name: tensor.double().flatten().tolist() for name, tensor in handler.ema_model.state_dict().items()})

    engine.run([0] * 6, max_epochs=1)
    return averages


def main():
    cases = [
        {"momentum": 0.1, "handle_buffers": "copy"},
        {"momentum": 0.1, "handle_buffers": "update"},
        {"momentum": 0.1, "momentum_warmup": 0.5, "warmup_iters": 4, "handle_buffers": "copy"},
        {"momentum": 0.5, "momentum_warmup": 0.1, "warmup_iters": 3, "handle_buffers": "update"},
    ]
    for case in cases:
        options = dict(case)
        case["averages"] = run(options.pop("handle_buffers"), **options)
    text = json.dumps({"base": BASE, "step": STEP, "cases": cases})
    pathlib.Path(__file__).with_name("expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
