"""Makes the small files that the readers of weights are tested on. Run in this folder with torch 2.11."""

import collections
import json

import torch

torch.manual_seed(0)
base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
state = collections.OrderedDict()
state["body.conv.weight"] = torch.nn.Parameter(torch.randn(2, 3, 1, 1))
state["body.transposed"] = base.t()
state["body.row"] = base[1]
state["body.shared"] = base
state["body.bn.num_batches_tracked"] = torch.tensor(7)
state["body.half"] = torch.tensor([0.5, -2.0]).half()
state["body.bf16"] = torch.tensor([[1.5], [3.0]]).bfloat16()
state["body.double"] = torch.tensor([1e-300], dtype=torch.float64)
state["body.bytes"] = torch.tensor([0, 255], dtype=torch.uint8)
state["body.flags"] = torch.tensor([True, False, True])
state["body.empty"] = torch.zeros(0, 4)

torch.save(state, "state_dict.pth")
torch.save(state, "legacy.pth", _use_new_zipfile_serialization=False)
parallel = {f"module.{name}": tensor for name, tensor in state.items()}
optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(3))], lr=0.1, momentum=0.9)
checkpoint = {"epoch": 3, "args": {"lr": 0.1, "big": 2**80}, "optimizer": optimizer.state_dict(), "model": parallel}
torch.save(checkpoint, "checkpoint.pth")
torch.save(torch.nn.Linear(2, 1), "module.pth")
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 1)), "script.pth")
torch.save({"epoch": 3}, "no_weights.pth")
torch.save({"w": torch.zeros(2, 2).to_sparse()}, "sparse.pth")

expected = {
    name: {
        "kind": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "values": tensor.detach().double().flatten().tolist(),
    }
    for name, tensor in state.items()
}
with open("expected.json", "w") as file:
    json.dump(expected, file, indent=1)
