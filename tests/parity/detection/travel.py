"""Loads our `ours.safetensors` strictly, predicts, and saves `theirs.pth`; the arguments are the folder and the case of make.py."""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import make  # noqa: E402

folder = pathlib.Path(sys.argv[1])
made = make.made_of(sys.argv[2])
made.load_state_dict(load_file(folder / "ours.safetensors"), strict=True)
made.eval()
with torch.no_grad():
    found = made(make.images())
records = [make.record(one) for one in found]
(folder / "found.json").write_text(json.dumps(records))
torch.save(made.state_dict(), folder / "theirs.pth")
