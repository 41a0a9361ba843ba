"""Images per second of the data loading of the article: CocoDetection with PIL and pycocotools, torch's DataLoader.

The same work as benches/loader.rs: every picture that has annotations, boxes, all masks, resized to 512 by 512, flipped
by chance, batches of 4. Usage: python3 article_loader.py ROOT WORKERS; prints images per second over three epochs.
"""

import contextlib
import io
import os
import random
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import CocoDetection
from torchvision.transforms import functional as F

SIZE = 512


class Masked(CocoDetection):
    def __getitem__(self, index):
        image_id = self.ids[index]
        objects = self.coco.loadAnns(self.coco.getAnnIds(imgIds=image_id))
        if not objects:
            return None
        path = self.coco.loadImgs(image_id)[0]["file_name"]
        image = Image.open(os.path.join(self.root, path)).convert("RGB")
        width, height = image.size
        boxes = torch.as_tensor([o["bbox"] for o in objects], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        target = {
            "image_id": torch.as_tensor(image_id),
            "area": torch.as_tensor([o["area"] for o in objects], dtype=torch.float32),
            "iscrowd": torch.as_tensor([o["iscrowd"] for o in objects]),
            "boxes": boxes * torch.tensor([SIZE / width, SIZE / height] * 2),
            "labels": torch.as_tensor([o["category_id"] for o in objects]),
        }
        masks = torch.as_tensor(np.stack([self.coco.annToMask(o) for o in objects]), dtype=torch.uint8)
        masks = torch.nn.functional.interpolate(masks[None], size=(SIZE, SIZE), mode="nearest")[0]
        image = F.to_tensor(F.resize(image, [SIZE, SIZE]))
        if random.random() < 0.5:
            image = image.flip(-1)
            masks = masks.flip(-1)
            target["boxes"][:, [0, 2]] = SIZE - target["boxes"][:, [2, 0]]
        target["masks"] = masks
        return image, target


def collate(batch):
    return tuple(zip(*[sample for sample in batch if sample is not None]))


def main():
    root, workers = sys.argv[1], int(sys.argv[2])
    with contextlib.redirect_stdout(io.StringIO()):
        data = Masked(os.path.join(root, "train2017"), os.path.join(root, "annotations", "instances_train2017.json"))
    loader = DataLoader(
        data, batch_size=4, shuffle=True, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
    )
    images, start = 0, 0.0
    for epoch in range(4):
        if epoch == 1:
            images, start = 0, time.perf_counter()
        for batch in loader:
            images += len(batch[0])
    print(images / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
