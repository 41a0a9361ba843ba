"""The article's training loop on COCO: detection.py COCO make weights=FILE | COCO ITERATIONS weights=FILE size=N batch=N."""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

root = Path(sys.argv[1])
options = dict(text.split("=") for text in sys.argv[3:])
size, batch = int(options.get("size", 256)), int(options.get("batch", 8))
torch.manual_seed(0)


def network(norm):
    """As with torchvision's weights: batch norm frozen, the last three stages trained."""
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3, norm_layer=norm)
    return MaskRCNN(backbone, 91, min_size=size, max_size=size)



class Train(Dataset):
    def __init__(self):
        self.coco = COCO(root / "annotations/instances_train2017.json")
        self.ids = [i for i in self.coco.getImgIds() if self.coco.getAnnIds(i, iscrowd=False)]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, place):
        entry = self.coco.imgs[self.ids[place]]
        image = Image.open(root / "train2017" / entry["file_name"]).convert("RGB")
        objects = [o for o in self.coco.loadAnns(self.coco.getAnnIds(entry["id"], iscrowd=False)) if min(o["bbox"][2:]) > 0]
        boxes = torch.tensor([o["bbox"] for o in objects])
        boxes[:, 2:] += boxes[:, :2]
        masks = torch.from_numpy(np.stack([self.coco.annToMask(o) for o in objects]))
        target = {"boxes": boxes, "labels": torch.tensor([o["category_id"] for o in objects]), "masks": masks}
        return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255, target


loader = DataLoader(Train(), batch, shuffle=True, num_workers=1, collate_fn=lambda samples: tuple(zip(*samples)))
if sys.argv[2] == "make":
    # Weights of no training, but with statistics that fit, so that frozen norms keep numbers in bounds.
    model = network(lambda channels: torch.nn.BatchNorm2d(channels, momentum=1.0))
    with torch.no_grad():
        model.train().backbone(model.transform(next(iter(loader))[0])[0].tensors)
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, options["weights"])
    sys.exit()

left = int(sys.argv[2])
model = network(FrozenBatchNorm2d)
model.load_state_dict(torch.load(options["weights"]))
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.001, momentum=0.9, weight_decay=1e-4)
model.train()
while left:
    for images, targets in loader:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.get("precision") == "bf16"):
            loss = sum(model(list(images), list(targets)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        left -= 1
        if left == 0:
            break
