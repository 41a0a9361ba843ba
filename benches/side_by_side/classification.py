"""A plain training loop: classification.py FOLDER make | FOLDER ITERATIONS."""

import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
if sys.argv[2] == "make":
    random = np.random.default_rng(0)
    np.save(folder / "images.npy", random.integers(0, 256, (1600, 64, 64, 3), dtype=np.uint8))
    np.save(folder / "labels.npy", random.integers(0, 10, 1600))
    sys.exit()

import torch  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402
from torchvision.models import resnet18  # noqa: E402

images = torch.from_numpy(np.load(folder / "images.npy")).permute(0, 3, 1, 2)
labels = torch.from_numpy(np.load(folder / "labels.npy"))
loader = DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True)
mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
model = resnet18(num_classes=10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
model.train()
left = int(sys.argv[2])
while left:
    for x, y in loader:
        loss = torch.nn.functional.cross_entropy(model((x / 255 - mean) / std), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        left -= 1
        if left == 0:
            break
