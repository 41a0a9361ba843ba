"""Makes copy_paste.json: what SimpleCopyPaste of torchvision's detection reference makes of two small pictures, for given
draws. Bytes are written in hexadecimal.

Usage: python3 copy_paste.py REFERENCE > copy_paste.json
where REFERENCE is `references/detection/transforms.py` of torchvision's repository.

The reference takes the last row and column of a mask for the end of its box; boxes here, as in a file of COCO, end behind
it, so 1 is added to those that it computes from masks. For that reason it also drops objects of which one row or column is
left, which are kept here; the pictures have none such.
"""

import importlib.util
import json
import sys

import torch

HEIGHT, WIDTH = 16, 21


def picture(seed):
    values = torch.arange(3 * HEIGHT * WIDTH).reshape(3, HEIGHT, WIDTH)
    return ((values * (7 + 4 * seed) + 31 * seed) % 251).to(torch.uint8)


def target(boxes, labels):
    masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = 1
        mask[y1, x1] = 0  # not only rectangles
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32),
        "labels": torch.tensor(labels),
        "masks": masks,
        "area": masks.sum((-1, -2)).to(torch.float32),
        "iscrowd": torch.zeros(len(boxes), dtype=torch.int64),
    }


def main():
    spec = importlib.util.spec_from_file_location("reference", sys.argv[1])
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    images = [picture(1), picture(2)]
    # The third object of the first is covered wholly by what is pasted, with blending also the fourth.
    first = target([[0, 0, 6, 5], [8, 3, 20, 12], [10, 8, 13, 11], [15, 11, 17, 13]], [1, 2, 3, 4])
    second = target([[9, 7, 15, 14], [0, 12, 5, 16], [3, 2, 9, 6]], [5, 6, 7])
    cases = []
    for blending in [False, True]:
        # Draws for the pasting into the first, then into the second.
        draws = [torch.tensor([2, 0, 0]), torch.tensor([1, 1, 3, 1])]
        given = iter(draws)
        true_randint, torch.randint = torch.randint, lambda *_, **__: next(given)
        made, targets = reference.SimpleCopyPaste(blending=blending)([*images], [dict(first), dict(second)])
        torch.randint = true_randint
        for i, (image, out) in enumerate(zip(made, targets)):
            pasted = len(torch.unique(draws[i]))
            boxes = out["boxes"].clone()
            boxes[: len(boxes) - pasted, 2:] += 1
            cases.append({
                "blending": blending,
                "into": i,
                "chosen": torch.unique(draws[i]).tolist(),
                "image": bytes(image.permute(1, 2, 0).flatten().tolist()).hex(),
                "masks": [bytes(mask.flatten().tolist()).hex() for mask in out["masks"]],
                "boxes": boxes.tolist(),
                "labels": out["labels"].tolist(),
                "area": out["area"].tolist(),
            })
    samples = [
        {
            "image": bytes(image.permute(1, 2, 0).flatten().tolist()).hex(),
            "masks": [bytes(mask.flatten().tolist()).hex() for mask in t["masks"]],
            "boxes": t["boxes"].tolist(),
            "labels": t["labels"].tolist(),
            "area": t["area"].tolist(),
        }
        for image, t in zip(images, [first, second])
    ]
    json.dump({"height": HEIGHT, "width": WIDTH, "samples": samples, "cases": cases}, sys.stdout)
    print()


main()
