"""Writes expected.json: what pycocotools says of a generated data set.

    python3 tests/parity/cocoeval/make.py

The data set comes from a small linear congruential generator, written again in tests/it/coco_eval.rs, so only the
expected numbers are stored. It has crowds, equal scores, equal boxes, images without objects, images without
detections, and a category that no object has. Needs numpy and pycocotools (2.0.11 was used).
"""

import contextlib
import io
import json
import pathlib
import sys
import time

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CATEGORIES = [1, 2, 3, 5, 8, 13, 21]


class Lcg:
    def __init__(self, seed):
        self.state = seed

    def pick(self, count):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % count


def quad(lcg, x, y, w, h):
    """Four points in a box, in quarter pixels."""
    points = []
    for _ in range(4):
        points += [x + lcg.pick(4 * w + 1) / 4, y + lcg.pick(4 * h + 1) / 4]
    return points


def generate(seed, images):
    lcg = Lcg(seed)
    truth = {"images": [], "annotations": [], "categories": [{"id": c, "name": f"c{c}"} for c in CATEGORIES]}
    results = []
    for i in range(images):
        image = 3 * i + 1
        width, height = 100 + lcg.pick(60), 80 + lcg.pick(60)
        truth["images"].append({"id": image, "width": width, "height": height, "file_name": f"{image}.jpg"})
        objects = []
        for _ in range(0 if lcg.pick(10) == 0 else 1 + lcg.pick(8)):
            category = CATEGORIES[lcg.pick(6)]
            x, y = lcg.pick(width - 10), lcg.pick(height - 10)
            w, h = 1 + lcg.pick(width - x), 1 + lcg.pick(height - y)
            if objects and lcg.pick(8) == 0:
                category, x, y, w, h = objects[lcg.pick(len(objects))]
            objects.append((category, x, y, w, h))
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": image, "category_id": category,
                "bbox": [x, y, w, h], "area": w * h * 3 / 4, "iscrowd": int(lcg.pick(12) == 0),
                "segmentation": [quad(lcg, x, y, w, h)],
            })
        for _ in range(0 if lcg.pick(10) == 0 else 100):
            if objects and lcg.pick(2) == 0:
                category, x, y, w, h = objects[lcg.pick(len(objects))]
                x, y = x + lcg.pick(7) - 3, y + lcg.pick(7) - 3
                w, h = max(1, w + lcg.pick(9) - 4), max(1, h + lcg.pick(9) - 4)
            else:
                category = CATEGORIES[lcg.pick(7)]
                x, y = lcg.pick(width - 10), lcg.pick(height - 10)
                w, h = 1 + lcg.pick(width - x), 1 + lcg.pick(height - y)
            results.append({
                "image_id": image, "category_id": category, "bbox": [x, y, w, h],
                "score": lcg.pick(50) / 50, "polygon": quad(lcg, x, y, w, h), "size": [height, width],
            })
    return truth, results


def generate_keypoints(seed, images, count):
    """Objects with keypoints, some without; results with keypoints near theirs, or anywhere."""
    lcg = Lcg(seed)
    names = [f"k{k}" for k in range(count)]
    categories = [{"id": c, "name": f"c{c}", "keypoints": names} for c in CATEGORIES[:2]]
    truth = {"images": [], "annotations": [], "categories": categories}
    results = []
    for i in range(images):
        image = 3 * i + 1
        width, height = 100 + lcg.pick(60), 80 + lcg.pick(60)
        truth["images"].append({"id": image, "width": width, "height": height, "file_name": f"{image}.jpg"})
        objects = []
        for _ in range(0 if lcg.pick(10) == 0 else 1 + lcg.pick(6)):
            category = CATEGORIES[lcg.pick(2)]
            x, y = lcg.pick(width - 10), lcg.pick(height - 10)
            w, h = 1 + lcg.pick(width - x), 1 + lcg.pick(height - y)
            labelled, points = lcg.pick(8) > 0, []
            for _ in range(count):
                point = [x + lcg.pick(4 * w + 1) / 4, y + lcg.pick(4 * h + 1) / 4, lcg.pick(3)]
                points.append(point if labelled and point[2] > 0 else [0, 0, 0])
            objects.append((category, [x, y, w, h], points))
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": image, "category_id": category,
                "bbox": [x, y, w, h], "area": w * h * 3 / 4, "iscrowd": int(lcg.pick(12) == 0),
                "keypoints": sum(points, []), "num_keypoints": sum(v > 0 for _, _, v in points),
            })
        for _ in range(0 if lcg.pick(10) == 0 else 30):
            if objects and lcg.pick(4) > 0:
                category, box, points = objects[lcg.pick(len(objects))]
            else:
                category, box, points = CATEGORIES[lcg.pick(2)], [lcg.pick(50), lcg.pick(50), 40, 30], None
            reach = 1 + lcg.pick(16)
            if points is None:
                points = [[box[0] + lcg.pick(41), box[1] + lcg.pick(31), 1] for _ in range(count)]
            points = [[x + lcg.pick(2 * reach + 1) / 2 - reach / 2, y + lcg.pick(2 * reach + 1) / 2 - reach / 2, 1] for x, y, _ in points]
            score = lcg.pick(50) / 50
            results.append({"image_id": image, "category_id": category, "score": score, "bbox": box, "keypoints": sum(points, [])})
    return truth, results


def evaluate(truth, results, iou, images=None, sigmas=None, boxes=True):
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = json.loads(json.dumps(truth))
        gt.createIndex()
        entries = []
        for result in results:
            entry = {key: result[key] for key in ("image_id", "category_id", "score")}
            if iou == "keypoints":
                entry["keypoints"] = result["keypoints"]
                entry |= {"bbox": result["bbox"]} if boxes else {}
            elif iou == "bbox":
                entry["bbox"] = result["bbox"]
            else:
                entry["segmentation"] = masks.frPyObjects([result["polygon"]], *result["size"])[0]
            entries.append(entry)
        dt = gt.loadRes(entries)
        evaluation = COCOeval(gt, dt, iou)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        if images is not None:
            evaluation.params.imgIds = images
        started = time.perf_counter()
        evaluation.evaluate()
        evaluation.accumulate()
        taken = time.perf_counter() - started
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        evaluation.summarize()
    print(f"{iou} {len(evaluation.params.imgIds)} images: {taken:.2f} s", file=sys.stderr)
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    return {
        "iou": iou,
        "stats": list(evaluation.stats),
        "text": text.getvalue(),
        # Means over the thresholds of each [K, A, M], -1 where there is no ground truth.
        "precision": np.mean(precision, axis=(0, 1)).ravel().tolist(),
        "recall": np.mean(recall, axis=0).ravel().tolist(),
        "scores": np.mean(evaluation.eval["scores"], axis=(0, 1)).ravel().tolist(),
    }


def main():
    truth, results = generate(7, 1000)
    subset = [image["id"] for i, image in enumerate(truth["images"]) if i % 3 == 0]
    runs = {"bbox": evaluate(truth, results, "bbox"), "bbox_subset": evaluate(truth, results, "bbox", subset)}
    truth, results = generate(11, 150)
    runs["segm"] = evaluate(truth, results, "segm")
    runs["keypoints"] = evaluate(*generate_keypoints(13, 150, 17), "keypoints", boxes=False)
    runs["keypoints_sigmas"] = evaluate(*generate_keypoints(17, 150, 5), "keypoints", sigmas=[0.1, 0.05, 0.2, 0.15, 0.08])
    path = pathlib.Path(__file__).parent / "expected.json"
    path.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
