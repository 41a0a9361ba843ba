"""Makes expected.json: samples of COCO as torchvision's references make them, as sums that are small to store.

Pictures by torchvision.io.decode_jpeg, annotations by the steps of the references' ConvertCocoPolysToMask (crowds dropped,
boxes cut at the borders), resized to 512 by 512 by torchvision.transforms.v2.

Usage: python3 make.py COCO_SAMPLE > expected.json
"""

import contextlib
import io
import json
import os
import sys

import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from torchvision import tv_tensors
from torchvision.io import decode_jpeg, read_file, ImageReadMode
from torchvision.transforms.v2 import functional as F

SIZE = [512, 512]


def main():
    root = sys.argv[1]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(os.path.join(root, "annotations", "instances_val2017.json"))
    out = []
    for image_id in sorted(coco.imgs):
        info = coco.imgs[image_id]
        path = os.path.join(root, "val2017", info["file_name"])
        if not os.path.exists(path):
            continue
        image = decode_jpeg(read_file(path), mode=ImageReadMode.RGB)
        _, height, width = image.shape
        objects = [o for o in coco.loadAnns(coco.getAnnIds(imgIds=image_id)) if o["iscrowd"] == 0]
        if not objects:
            continue
        boxes = torch.as_tensor([o["bbox"] for o in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(min=0, max=width)
        boxes[:, 1::2].clamp_(min=0, max=height)
        keep = (boxes[:, 3] > boxes[:, 1]) & (boxes[:, 2] > boxes[:, 0])
        planes = []
        for o in objects:
            plane = coco_mask.decode(coco_mask.frPyObjects(o["segmentation"], height, width))
            planes.append(torch.as_tensor(plane, dtype=torch.uint8).any(dim=2))
        masks = tv_tensors.Mask(torch.stack(planes)[keep].to(torch.uint8))
        small = F.resize(masks, SIZE)
        place = torch.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
        resized = F.resize(image, SIZE, antialias=True)
        out.append({
            "image_id": image_id,
            "pixels": image.long().sum(dim=(1, 2)).tolist(),
            "resized": resized.long().sum(dim=(1, 2)).tolist(),
            "labels": [o["category_id"] for o, k in zip(objects, keep) if k],
            "boxes": [[round(v, 3) for v in b] for b in (boxes[keep] * torch.tensor([SIZE[1] / width, SIZE[0] / height] * 2)).tolist()],
            "mask_pixels": small.long().sum(dim=(1, 2)).tolist(),
            "mask_places": [int(place[m == 1].sum()) for m in small],
        })
        if len(out) == 8:
            break
    print(json.dumps(out, separators=(",", ":")))


if __name__ == "__main__":
    main()
