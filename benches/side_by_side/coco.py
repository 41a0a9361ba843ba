"""COCO's annotations and evaluation by pycocotools, faster-coco-eval or hotcoco, for run.py; and the files they read.

    python coco.py make FOLDER [IMAGES]
    python coco.py LIBRARY index ANNOTATIONS
    python coco.py LIBRARY bbox|segm ANNOTATIONS RESULTS

`make` writes gt.json, as large as val2017's (5,000 images, 36,000 objects of 80 categories, polygons, a hundredth of them crowds), and results of
100 and of 20 detections an image: boxes, and masks as run lengths, with numbers as float32 has them. The others print, as JSON, the
seconds from opening the files to the twelve numbers, the numbers, and the most memory of this process in MiB.
"""

import contextlib
import io
import json
import resource
import sys
import time
from pathlib import Path

WIDTH, HEIGHT = 640, 480
CATEGORIES = [i for i in range(1, 91) if i % 9]


def outline(dice, box, points):
    """An uneven ellipse in a box, `x, y, …` with two decimals."""
    import numpy as np

    x, y, w, h = box
    angles = np.arange(points) * (2 * np.pi / points)
    radii = dice.uniform(0.7, 1.0, points)
    xs, ys = x + w / 2 * (1 + radii * np.cos(angles)), y + h / 2 * (1 + radii * np.sin(angles))
    return np.stack([xs, ys], 1).ravel().round(2)


def place(dice):
    """A box `x, y, w, h`: its sides are spread as COCO's, two fifths of the objects small, a quarter large."""
    import numpy as np

    side = np.exp(dice.normal(4.0, 1.0))
    w, h = np.clip(side * np.exp(dice.normal(0, 0.4, 2)), 3, [WIDTH - 1, HEIGHT - 1])
    return np.array([dice.uniform(0, WIDTH - w), dice.uniform(0, HEIGHT - h), w, h])


def inside(box):
    import numpy as np

    low, high = np.clip(box[:2], 0, [WIDTH - 4, HEIGHT - 4]), np.clip(box[:2] + box[2:], 4, [WIDTH, HEIGHT])
    return np.concatenate([low, np.maximum(high - low, 2)])


def make(folder, images):
    import numpy as np
    from pycocotools import mask as masks

    dice = np.random.default_rng(11)
    # Frequent categories are far more frequent than rare ones, as in COCO.
    share = 1 / np.arange(1, 81) ** 0.8
    share /= share.sum()
    annotations, results = [], {100: [], 20: []}
    for image in range(1, images + 1):
        own = dice.choice(80, 3, p=share)
        objects = []
        for _ in range(0 if dice.random() < 0.01 else 1 + int(dice.exponential(6.8))):
            category, box = int(dice.choice(own)), place(dice)
            objects.append((category, box))
            points, crowd = outline(dice, box, int(8 + dice.exponential(20))), dice.random() < 0.01
            rle = masks.frPyObjects([points.tolist()], HEIGHT, WIDTH)[0]
            if crowd:
                pixels = masks.decode(rle).ravel(order="F")
                ends = np.flatnonzero(np.diff(pixels)) + 1
                runs = np.diff(np.concatenate([[0], ends, [pixels.size]])).tolist()
                shape = {"counts": ([0] if pixels[0] else []) + runs, "size": [HEIGHT, WIDTH]}
            else:
                shape = [points.tolist()]
            annotations.append({
                "segmentation": shape, "area": float(masks.area(rle)), "iscrowd": int(crowd), "image_id": image,
                "bbox": box.round(2).tolist(), "category_id": CATEGORIES[category], "id": len(annotations) + 1,
            })
        for count, found in results.items():
            for i in range(count):
                # The best find objects, more or less well; others are of the image's categories, or of any.
                if objects and dice.random() < 0.5:
                    category, box = objects[dice.integers(len(objects))]
                    box = inside(box + dice.normal(0, 0.08, 4) * np.tile(box[2:], 2))
                    score = dice.beta(2, 2)
                else:
                    category, box = int(dice.choice(own) if dice.random() < 0.7 else dice.choice(80, p=share)), place(dice)
                    score = dice.beta(1, 6)
                rle = masks.frPyObjects([outline(dice, box, 24).tolist()], HEIGHT, WIDTH)[0]
                entry = {"image_id": image, "category_id": CATEGORIES[category]}
                shape = {"size": rle["size"], "counts": rle["counts"].decode()}
                found.append((entry, np.float32(box).tolist(), shape, float(np.float32(score))))
    truth = {
        "info": {"year": 2017},
        "images": [
            {"license": 3, "file_name": f"{i:012}.jpg", "height": HEIGHT, "width": WIDTH, "date_captured": "2013-11-14 11:18:45", "id": i}
            for i in range(1, images + 1)
        ],
        "annotations": annotations,
        "categories": [{"supercategory": "thing", "id": c, "name": f"c{c}"} for c in CATEGORIES],
    }
    (folder / "gt.json").write_text(json.dumps(truth))
    for count, found in results.items():
        boxes = [{**entry, "bbox": box, "score": score} for entry, box, _, score in found]
        (folder / f"bbox_{count}.json").write_text(json.dumps(boxes))
        shapes = [{**entry, "segmentation": shape, "score": score} for entry, _, shape, score in found]
        (folder / f"segm_{count}.json").write_text(json.dumps(shapes))


def library(name):
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval, "loadRes"
    if name == "faster-coco-eval":
        from faster_coco_eval import COCO, COCOeval_faster

        return COCO, COCOeval_faster, "loadRes"
    from hotcoco import COCO, COCOeval

    return COCO, COCOeval, "load_res"


def main():
    if sys.argv[1] == "make":
        return make(Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 5000)
    (coco, evaluation, load), (what, *files) = library(sys.argv[1]), sys.argv[2:]
    stats = []
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco(files[0])
        if what != "index":
            run = evaluation(truth, getattr(truth, load)(files[1]), what)
            run.evaluate()
            run.accumulate()
            run.summarize()
            stats = [float(number) for number in run.stats[:12]]
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "stats": stats, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


main()
