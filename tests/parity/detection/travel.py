"""Loads our `ours.safetensors` strictly, predicts, and saves `theirs.pth`; the argument is the folder."""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import make  # noqa: E402

folder = pathlib.Path(sys.argv[1])
made = make.model(**make.CASES["mask_v1_resnet18_frozen"], **make.ALL, **make.TEST)
made.load_state_dict(load_file(folder / "ours.safetensors"), strict=True)
made.eval()
with torch.no_grad():
    found = made(make.images())
records = [
    {
        "boxes": make.numbers(one["boxes"]),
        "scores": make.numbers(one["scores"]),
        "labels": make.numbers(one["labels"]),
        "mask_sums": make.numbers(one["masks"].double().sum((1, 2, 3))),
        "mask_rows": make.numbers(one["masks"][:2, 0, ::16, ::16], 5),
    }
    for one in found
]
(folder / "found.json").write_text(json.dumps(records))
torch.save(made.state_dict(), folder / "theirs.pth")
