"""COCO results of a folder of images: inference.py IMAGES make weights=FILE size=N | IMAGES COUNT weights=FILE size=N batch=N."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/parity/predict"))
from compare import build, make_weights  # noqa: E402

files = sorted(Path(sys.argv[1]).iterdir())
options = dict(text.split("=") for text in sys.argv[3:])
size, batch = int(options.get("size", 512)), int(options.get("batch", 1))
case = {"backbone": "resnet50"}


def read(file):
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1) / 255


if sys.argv[2] == "make":
    # Weights of no training that find things, so that boxes are suppressed and masks drawn as with trained ones.
    state = make_weights(case, [read(file) for file in files[:2]], seed=0, min_size=size, max_size=size)
    torch.save(state, options["weights"])
    sys.exit()

files = files[: int(sys.argv[2])]
model = build(**case, min_size=size, max_size=size)
model.load_state_dict(torch.load(options["weights"]))
model.eval()
results = []
for first in range(0, len(files), batch):
    chosen = files[first : first + batch]
    with torch.no_grad():
        found = model([read(file) for file in chosen])
    for file, objects in zip(chosen, found):
        masks = (objects["masks"][:, 0] > 0.5).numpy().astype(np.uint8)
        runs = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0))) if len(masks) else []
        boxes, scores, labels = (objects[name].tolist() for name in ("boxes", "scores", "labels"))
        for (x1, y1, x2, y2), score, label, rle in zip(boxes, scores, labels, runs):
            rle["counts"] = rle["counts"].decode()
            entry = {"image_id": int(file.stem), "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            results.append({**entry, "segmentation": rle})
Path("theirs.json").write_text(json.dumps(results))
