"""Writes expected.json: what pycocotools, hotcoco and tidecv say of a generated data set.

    python3 tests/parity/diagnose/make.py

The data set is that of ../cocoeval/make.py. Counts over confidence are made of pycocotools' matches; confusion, kinds of errors and
images' counts are hotcoco's; tidecv's kinds of errors are of such data without crowds and equal boxes, and of at most 100 detections an
image, where the two agree but for the mean: tidecv's is over all categories, also those without objects. Needs numpy and pycocotools (2.0.11), hotcoco (1.3.0) and tidecv (1.0.1 was used).
"""

import contextlib
import copy
import io
import json
import pathlib
import sys

import numpy as np
from hotcoco import COCO as HotCOCO, COCOeval as HotEval
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tidecv import TIDE, Data

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "cocoeval"))
import make as cocoeval

CONFIDENCES = [0.0, 0.3, 0.5, 0.82, 0.99]


def entries_of(results, iou):
    entries = []
    for result in results:
        entry = {key: result[key] for key in ("image_id", "category_id", "score")}
        if iou == "bbox":
            entry["bbox"] = result["bbox"]
        else:
            entry["segmentation"] = masks.frPyObjects([result["polygon"]], *result["size"])[0]
        entries.append(entry)
    return entries


def evaluated(truth, entries, iou):
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = json.loads(json.dumps(truth))
        gt.createIndex()
        run = COCOeval(gt, gt.loadRes(copy.deepcopy(entries)), iou)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def by_confidence(run):
    """True and false positives of each category at some confidences, and its highest F1."""
    counts, best, lines = {}, {}, []
    for category in run.params.catIds:
        own = [e for e in run.evalImgs if e and e["category_id"] == category and e["aRng"] == [0, 1e10]]
        joined = lambda key: np.concatenate([np.atleast_2d(e[key])[0] for e in own] + [[]])
        scores, ignored, matched = joined("dtScores"), joined("dtIgnore") > 0, joined("dtMatches") > 0
        truths = int((1 - joined("gtIgnore")).sum())
        right, wrong = matched & ~ignored, ~matched & ~ignored
        kept = lambda marks, confidence: int((marks & (scores >= confidence)).sum())
        counts[int(category)] = [truths, [[kept(right, c), kept(wrong, c)] for c in CONFIDENCES]]
        if truths:
            confidences = np.unique(scores)
            f1 = lambda c: 2 * kept(right, c) / (kept(right, c) + kept(wrong, c) + truths)
            lines.append((scores, right, wrong, truths))
            if right.any():
                best[int(category)] = highest(confidences, [f1(c) for c in confidences])
    confidences = np.unique(np.concatenate([line[0] for line in lines]))

    def mean(c):
        kept = [(scores >= c, right, wrong, truths) for scores, right, wrong, truths in lines]
        return np.mean([2 * (k & right).sum() / ((k & (right | wrong)).sum() + truths) for k, right, wrong, truths in kept])

    return {"counts": counts, "best": best, "overall": highest(confidences, [mean(c) for c in confidences])}


def highest(confidences, values):
    """The highest confidence of those with the highest value, and that value."""
    top = max(values)
    return [float(max(c for c, value in zip(confidences, values) if value >= top - 1e-12)), float(top)]


def by_hotcoco(truth, entries, iou):
    gt = HotCOCO(json.loads(json.dumps(truth)))
    texts = [
        {**e, "segmentation": {**e["segmentation"], "counts": e["segmentation"]["counts"].decode()}} if "segmentation" in e else e
        for e in entries
    ]
    run = HotEval(gt, gt.load_res(texts), iou)
    with contextlib.redirect_stdout(io.StringIO()):
        run.run()
    tide = run.tide_errors()
    images = run.image_diagnostics(iou_thr=0.5)["img_summary"]
    return {
        "confusion": [[c, run.confusion_matrix(iou_thr=0.5, max_det=100, min_score=c)["matrix"].tolist()] for c in CONFIDENCES],
        "tide": {key: tide[key] for key in ("delta_ap", "counts", "ap_base")},
        "images": {str(i): [s["tp"], s["fn"], s["fp"]] for i, s in sorted(images.items())},
    }


def by_tidecv(truth, entries):
    gt, dt = Data("gt", 100), Data("dt", 100)
    for a in truth["annotations"]:
        gt.add_ground_truth(a["image_id"], a["category_id"], a["bbox"])
    for category in truth["categories"]:
        gt.add_class(category["id"], category["name"])
    for image in truth["images"]:
        gt.add_image(image["id"], image["file_name"])
    for e in entries:
        dt.add_detection(e["image_id"], e["category_id"], e["score"], e["bbox"])
    tide = TIDE()
    run = tide.evaluate(gt, dt, mode=TIDE.BOX)
    main = {kind.short_name: len(errors) for kind, errors in run.error_dict.items()}
    fixed = {kind.short_name: value / 100 for kind, value in run.fix_main_errors().items()}
    return {"ap": run.ap / 100, "counts": main, "delta_ap": fixed}


def plain(truth):
    """Without crowds and without a second object in the same place, of which each program takes another."""
    seen, kept = set(), []
    for a in truth["annotations"]:
        place = (a["image_id"], *a["bbox"])
        if not a["iscrowd"] and place not in seen:
            seen.add(place)
            kept.append(a)
    return {**truth, "annotations": kept}


def main():
    expected = {"confidences": CONFIDENCES}
    for iou, seed, images in (("bbox", 7, 300), ("segm", 11, 100)):
        truth, results = cocoeval.generate(seed, images)
        entries = entries_of(results, iou)
        run = evaluated(truth, entries, iou)
        expected[iou] = {**by_confidence(run), **by_hotcoco(truth, entries, iou)}
        # Of a category without objects all is -1.
        expected[iou]["precision_recall"] = {
            int(category): [np.round(run.eval[key][0, :, k, 0, 2], 12).tolist() for key in ("precision", "scores")]
            for k, category in enumerate(run.params.catIds) if run.eval["precision"][0, 0, k, 0, 2] > -1
        }
    truth, results = cocoeval.generate(5, 120)
    truth = plain(truth)
    entries = [e for i, e in enumerate(entries_of(results, "bbox")) if i % 2]
    for i, e in enumerate(entries):
        e["score"] = 0.01 + 0.98 * (i * 7919 % len(entries) / len(entries))
    expected["tidecv"] = by_tidecv(truth, entries)
    path = pathlib.Path(__file__).parent / "expected.json"
    path.write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
