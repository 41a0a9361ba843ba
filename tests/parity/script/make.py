"""Small TorchScript files and what torch makes of them, for crates/components/src/model/torchscript.rs.

    python3 tests/parity/script/make.py

Needs torch 2.11. Writes net.pt (scripted classifier), traced.pt, segment.pt (a dictionary of outputs), own.pt (its own
losses, tied weights), frozen.pt and expected.json beside itself.
"""

import json
import pathlib
from typing import Dict

import torch
from torch import nn

HERE = pathlib.Path(__file__).parent


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x)))
        return self.fc(x.mean([2, 3]))


class Segment(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1)

    def forward(self, x) -> Dict[str, torch.Tensor]:
        y = self.conv(x)
        return {"out": y, "aux": y * 2}


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x, label) -> Dict[str, torch.Tensor]:
        self.calls += 1
        y = self.second(torch.tanh(self.first(x.flatten(1))))
        return {
            "loss_square": y.square().mean(),
            "loss_class": nn.functional.cross_entropy(y, label),
            "logits": y,
        }


def wave(shape, start=0.0):
    count = int(torch.tensor(shape).prod())
    return torch.sin(torch.arange(count, dtype=torch.float64) * 0.7 + start).float().reshape(shape)


def fill(module):
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(wave(parameter.shape, i) * 0.5)


def numbers(tensor):
    return tensor.detach().double().flatten().tolist()


def main():
    net = Net()
    fill(net)
    scripted = torch.jit.script(net)
    scripted.save(HERE / "net.pt")
    net.eval()
    torch.jit.trace(net, torch.zeros(2, 1, 9, 9)).save(HERE / "traced.pt")
    torch.jit.freeze(torch.jit.script(net)).save(HERE / "frozen.pt")

    images, labels = wave((5, 1, 9, 9)), torch.tensor([0, 1, 2, 0, 1])
    expected = {"evaluated": numbers(net(images))}
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    expected["losses"] = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        expected["losses"].append(loss.item())
    expected["state"] = {name: numbers(tensor) for name, tensor in net.state_dict().items()}
    expected["evaluated_after"] = numbers(net.eval()(images))

    segment = Segment()
    fill(segment)
    torch.jit.script(segment).save(HERE / "segment.pt")
    labels = (torch.arange(5 * 81) % 3).reshape(5, 9, 9)
    labels[:, 0] = 255
    expected["segment_loss"] = nn.functional.cross_entropy(segment(images)["out"], labels, ignore_index=255).item()

    own = Own()
    fill(own)
    torch.jit.script(own).save(HERE / "own.pt")
    out = own(wave((5, 1, 2, 2)), torch.tensor([0, 1, 2, 3, 1]))
    expected["own"] = {name: numbers(value) for name, value in out.items()}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
