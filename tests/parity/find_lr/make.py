"""Learning rate range tests by Ignite's FastaiLRFinder, for src/find_lr.rs.

    python3 tests/parity/find_lr/make.py

Needs torch 2.11 and pytorch-ignite 0.5. Writes expected.json beside itself: the raw losses of a small problem, and what Ignite
makes of them: learning rates, smoothed losses up to where it stops, and the rate that it suggests. Ignite notes beside a loss the
rate of the next step; pipe notes that of the step that follows the loss, so only the rest is compared.
"""

import json
import pathlib

import torch
from ignite.engine import Engine
from ignite.handlers import FastaiLRFinder

ITERATIONS = 60


def case(start, end, mode, smooth, diverge):
    torch.manual_seed(3)
    model = torch.nn.Linear(4, 1).double()
    # Ignite makes the first step with the optimizer's own rate.
    optimizer = torch.optim.SGD(model.parameters(), lr=start)
    inputs, targets = torch.randn(32, 4).double(), torch.randn(32, 1).double()
    losses = []

    def step(engine, batch):
        optimizer.zero_grad()
        loss = ((model(inputs) * 3 - targets - 5) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        return loss.item()

    engine = Engine(step)
    engine.state.epoch_length, engine.state.max_epochs = ITERATIONS, 1
    finder = FastaiLRFinder()
    with finder.attach(
        engine, {"model": model, "optimizer": optimizer}, num_iter=ITERATIONS, start_lr=start, end_lr=end, step_mode=mode,
        smooth_f=smooth, diverge_th=diverge,
    ) as attached:
        attached.run(range(ITERATIONS))
    results = finder.get_results()
    return {
        "smooth": smooth, "diverge": diverge,
        "raw": losses, "lrs": results["lr"], "losses": results["loss"], "suggestion": finder.lr_suggestion(),
    }


def main():
    cases = [
        case(1e-5, 1.0, "exp", 0.05, 5.0),
        case(1e-4, 10.0, "exp", 0.5, 3.0),
        case(1e-5, 0.1, "linear", 0.2, 4.0),
        case(1e-6, 1e-2, "exp", 0.9, 5.0),
    ]
    lines = ",\n".join(json.dumps(one) for one in cases)
    pathlib.Path(__file__).with_name("expected.json").write_text('{"cases": [\n' + lines + "\n]}\n")


main()
