"""`pipe score` beside pycocotools, and beside faster-coco-eval where it is installed: the same numbers, and the time.

    python3 tests/parity/cocoeval/score.py --pipe target/release/pipe [--shared FOLDER] [--rounds 3]

Files of annotations and results are written, then each program reads them and evaluates: `pipe score` as a process of its
own, the others in this one, timed from opening the files to the twelve numbers. FOLDER is one that holds
`expected_stats.json` of the sample results of the COCO API; all 24 numbers are compared with it. The other set is
generated: 1,000 images, 100 detections in nine of ten, crowds as run lengths, equal scores, equal boxes, empty images.
Exit status 1 when a number differs by more than 1e-9.
"""

import argparse
import contextlib
import io
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import make
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def write_generated(folder, images):
    truth, results = make.generate(7, images)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    for annotation in truth["annotations"]:
        if annotation["iscrowd"]:
            rle = masks.frPyObjects(annotation["segmentation"], *sizes[annotation["image_id"]])[0]
            annotation["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
    for result in results:
        rle = masks.frPyObjects([result.pop("polygon")], *result.pop("size"))[0]
        result["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "dt.json").write_text(json.dumps(results))
    # Box results without masks: with both, loadRes takes the box and the mask's area.
    for result in results:
        del result["segmentation"]
    (folder / "dt_bbox.json").write_text(json.dumps(results))
    return folder / "gt.json", {"bbox": folder / "dt_bbox.json", "segm": folder / "dt.json"}


def by_pipe(pipe, truth, found, iou):
    start = time.perf_counter()
    command = [pipe, "score", str(truth), str(found), "--iou", iou, "--format", "json"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds = time.perf_counter() - start
    stats = json.loads(text)["stats"]
    return [stats[name] for name in NAMES], seconds


def by_python(coco, evaluation, truth, found, iou):
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        gt = coco(str(truth))
        run = evaluation(gt, gt.loadRes(str(found)), iou)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return list(run.stats[:12]), time.perf_counter() - start


def shared_pair(pipe, folder):
    worst = 0.0
    for run in json.loads((folder / "expected_stats.json").read_text())["runs"]:
        truth, found = (folder.parent / run[key] for key in ("gt", "dt"))
        stats, _ = by_pipe(pipe, truth, found, run["iouType"])
        difference = max(abs(stats[i] - run["stats"][name]) for i, name in enumerate(NAMES))
        print(f"{found.name}, {run['iouType']}: 12 numbers, largest difference {difference:.1e}")
        worst = max(worst, difference)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", required=True)
    parser.add_argument("--shared", type=pathlib.Path, help="the folder of expected_stats.json")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    worst = shared_pair(args.pipe, args.shared) if args.shared else 0.0
    others = {"pycocotools": (COCO, COCOeval)}
    try:
        from faster_coco_eval import COCO as FasterCOCO, COCOeval_faster

        others["faster-coco-eval"] = (FasterCOCO, COCOeval_faster)
    except ImportError:
        print("faster-coco-eval is not installed: left out")
    with tempfile.TemporaryDirectory() as folder:
        truth, results = write_generated(pathlib.Path(folder), args.images)
        for iou, found in results.items():
            ours, times = None, {name: [] for name in ["pipe", *others]}
            for _ in range(args.rounds):
                ours, seconds = by_pipe(args.pipe, truth, found, iou)
                times["pipe"].append(seconds)
                for name, (coco, evaluation) in others.items():
                    stats, seconds = by_python(coco, evaluation, truth, found, iou)
                    times[name].append(seconds)
                    if name == "pycocotools":
                        difference = max(abs(a - b) for a, b in zip(ours, stats))
                        worst = max(worst, difference)
            print(f"generated, {args.images} images, {iou}: largest difference to pycocotools {difference:.1e}")
            own = statistics.median(times["pipe"])
            for name, values in times.items():
                ratio = "" if name == "pipe" else f", {statistics.median(values) / own:.1f} times pipe's"
                low, high = min(values), max(values)
                print(f"  {name:17} {statistics.median(values):6.2f} s ({low:.2f} to {high:.2f}){ratio}")
    sys.exit(0 if worst <= 1e-9 else 1)


if __name__ == "__main__":
    main()
