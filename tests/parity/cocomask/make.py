"""Writes cases.json: polygons, and the masks that pycocotools makes of them.

    python3 tests/parity/cocomask/make.py

Needs numpy and pycocotools (2.0.11 was used).
"""

import json
import pathlib
import random

import numpy as np
from pycocotools import mask as masks


def text(rle):
    return rle["counts"].decode()


def polygon(rng, height, width, kind):
    points = rng.randint(3, 9)
    xs = [rng.uniform(-0.2 * width, 1.2 * width) for _ in range(points)]
    ys = [rng.uniform(-0.2 * height, 1.2 * height) for _ in range(points)]
    if kind == "inside":
        xs, ys = [min(max(x, 0), width) for x in xs], [min(max(y, 0), height) for y in ys]
    step = {"inside": 100, "outside": 100, "whole": 1, "tenths": 10, "fine": None}[kind]
    if step:
        xs, ys = [round(x * step) / step for x in xs], [round(y * step) / step for y in ys]
    if rng.random() < 0.3:  # a point given twice
        xs.insert(1, xs[0])
        ys.insert(1, ys[0])
    return [v for pair in zip(xs, ys) for v in pair]


def main():
    rng = random.Random(5)
    cases = []
    for i in range(150):
        height, width = rng.randint(1, 60), rng.randint(1, 80)
        kind = ["inside", "outside", "whole", "tenths", "fine"][i % 5]
        shapes = [polygon(rng, height, width, kind) for _ in range(rng.randint(1, 3))]
        # As a list of one: pycocotools takes a list of lists of 4 numbers for boxes.
        parts = [masks.frPyObjects([shape], height, width)[0] for shape in shapes]
        union = masks.merge(parts)
        cases.append({
            "size": [height, width], "polygons": shapes, "parts": [text(part) for part in parts],
            "union": text(union), "intersection": text(masks.merge(parts, intersect=True)),
            "area": int(masks.area(union)), "bbox": masks.toBbox(union).tolist(),
            # Rows summed over columns, row-major: pins the orientation.
            "rows": masks.decode(union).sum(axis=1).tolist(),
            "iou": masks.iou(parts, [union, *parts], [0] * (len(parts) + 1)).ravel().tolist(),
            "iou_crowd": masks.iou(parts, [union, *parts], [1] * (len(parts) + 1)).ravel().tolist(),
        })
    boxes = []
    for _ in range(20):
        height, width = rng.randint(10, 60), rng.randint(10, 80)
        box = [rng.randint(-500, 5000) / 100, rng.randint(-500, 5000) / 100, rng.randint(0, 4000) / 100, rng.randint(0, 4000) / 100]
        boxes.append({"size": [height, width], "box": box, "mask": text(masks.frPyObjects(np.array([box]), height, width)[0])})
    path = pathlib.Path(__file__).parent / "cases.json"
    path.write_text(json.dumps({"polygons": cases, "boxes": boxes}, separators=(",", ":")) + "\n")


main()
