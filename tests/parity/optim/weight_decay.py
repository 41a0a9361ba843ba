"""Which parameters torchvision's references train without weight decay, for crates/components/src/optimizer/group.rs.

    python3 tests/parity/optim/weight_decay.py

Needs torchvision 0.26. Writes weight_decay.json beside itself: the names for `norm_weight_decay = 0` and for `bias_weight_decay = 0`
too, by the rule of `set_weight_decay` in references/classification/utils.py.
"""

import json
import pathlib

import torch
import torchvision

NORMS = (
    torch.nn.modules.batchnorm._BatchNorm,
    torch.nn.LayerNorm,
    torch.nn.GroupNorm,
    torch.nn.modules.instancenorm._InstanceNorm,
    torch.nn.LocalResponseNorm,
)


def undecayed(model, biases):
    names = []
    for prefix, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            if isinstance(module, NORMS) or biases and name == "bias":
                names.append(f"{prefix}.{name}")
    return sorted(names)


def main():
    model = torchvision.models.resnet18(weights=None)
    out = {"norm": undecayed(model, False), "norm_and_bias": undecayed(model, True)}
    pathlib.Path(__file__).with_name("weight_decay.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


main()
