"""Small datasets in the formats of others, and what their own programs read of them.

    python make.py        (Pillow, NumPy, pycocotools, torchvision, ultralytics)

YOLO: boxes by ultralytics' `verify_image_label`. VOC: corners by torchvision's `VOCDetection`. Masks: indices by Pillow. Arrays: NumPy.
Keypoints: pycocotools.
"""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import VOCDetection
from ultralytics.data.utils import verify_image_label

HERE = Path(__file__).parent
for folder in ["yolo", "voc", "masks", "arrays", "keypoints"]:
    shutil.rmtree(HERE / folder, ignore_errors=True)
rng = np.random.default_rng(0)


def image(path, height, width, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path, **options)


expected = {}

# YOLO: boxes, polygons, an image without labels, one that is stored sideways.
turned = Image.Exif()
turned[0x112] = 6
for name, size, options in [("a.png", (12, 20), {}), ("b.png", (16, 16), {}), ("c.jpg", (12, 20), {"exif": turned})]:
    image(HERE / "yolo/images/train" / name, *size, **options)
(HERE / "yolo/data.yaml").write_text("path: .\ntrain: images/train\nval: val.txt\nnames:\n  0: apple\n  1: pear\n")
(HERE / "yolo/val.txt").write_text("./images/train/a.png\n")
labels = HERE / "yolo/labels/train"
labels.mkdir(parents=True)
(labels / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n1 0.25 0.75 0.1 0.125\n")
(labels / "c.txt").write_text("1 0.1 0.2 0.9 0.2 0.8 0.7 0.15 0.65\n0 0.5 0.5 0.5 0.5 0.75 0.9\n")
expected["yolo"] = {}
for path in sorted((HERE / "yolo/images/train").iterdir()):
    label = labels / (path.stem + ".txt")
    found = verify_image_label((str(path), str(label), "", False, 2, 0, 0, False))
    boxes, (height, width) = found[1], found[2]
    xywh = [
        [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        for _, x, y, w, h in (boxes.astype(np.float64).tolist() if len(boxes) else [])
    ]
    expected["yolo"][path.name] = {
        "size": [height, width],
        "labels": [int(c) + 1 for c in (boxes[:, 0] if len(boxes) else [])],
        "xywh": xywh,
    }

# VOC.
root = HERE / "voc"
(root / "Annotations").mkdir(parents=True)
(root / "ImageSets/Main").mkdir(parents=True)
for name in ["one", "two", "three"]:
    image(root / "JPEGImages" / f"{name}.jpg", 24, 32)
objects = {
    "one": [("dog", 1, 1, 32, 24, 0), ("cat", 3, 4, 10, 20, 1)],
    "two": [],
    "three": [("person", 5.5, 2, 12, 9.25, 0)],
}
for name, found in objects.items():
    xml = ET.Element("annotation")
    ET.SubElement(xml, "filename").text = f"{name}.jpg"
    size = ET.SubElement(xml, "size")
    for side, value in [("width", 32), ("height", 24), ("depth", 3)]:
        ET.SubElement(size, side).text = str(value)
    for label, left, top, right, bottom, difficult in found:
        thing = ET.SubElement(xml, "object")
        ET.SubElement(thing, "name").text = label
        ET.SubElement(thing, "difficult").text = str(difficult)
        box = ET.SubElement(thing, "bndbox")
        for side, value in [("xmin", left), ("ymin", top), ("xmax", right), ("ymax", bottom)]:
            ET.SubElement(box, side).text = str(value)
    ET.ElementTree(xml).write(root / "Annotations" / f"{name}.xml")
(root / "ImageSets/Main/train.txt").write_text("one\ntwo\n")
(root / "ImageSets/Main/val.txt").write_text("three\n")
expected["voc"] = {
    name: [
        [thing["name"], *[float(thing["bndbox"][side]) for side in ["xmin", "ymin", "xmax", "ymax"]], int(thing["difficult"])]
        for thing in VOCDetection.parse_voc_xml(ET.parse(root / "Annotations" / f"{name}.xml").getroot())["annotation"].get("object", [])
    ]
    for name in objects
}

# Masks of classes: grey, with a palette, of 2 bits.
expected["masks"] = {}
for name, values in [("grey", [0, 1, 255]), ("palette", [0, 1, 2, 255]), ("bits", [0, 1, 2])]:
    image(HERE / "masks/images" / f"{name}.jpg", 5, 7)
    classes = rng.choice(np.array(values, dtype=np.uint8), (5, 7))
    mask = Image.fromarray(classes, mode="L" if name == "grey" else "P")
    if name != "grey":
        mask.putpalette([c for i in range(256) for c in (i, 255 - i, i // 2)])
    (HERE / "masks/masks").mkdir(exist_ok=True)
    mask.save(HERE / "masks/masks" / f"{name}.png", **({"bits": 2} if name == "bits" else {}))
    expected["masks"][name] = np.asarray(Image.open(HERE / "masks/masks" / f"{name}.png")).flatten().tolist()

# Arrays.
(HERE / "arrays").mkdir()
pixels = rng.integers(0, 256, (3, 2, 4, 3), dtype=np.uint8)
grey = rng.random((3, 2, 4), dtype=np.float32)
arrays = dict(train_images=pixels, train_labels=np.array([[2], [0], [1]], dtype=np.uint8))
# One that is no tensor, which must not cost the others.
np.savez_compressed(HERE / "arrays/data.npz", **arrays, names=np.array(["a", "b", "c"]))
np.save(HERE / "arrays/grey.npy", grey)
np.save(HERE / "arrays/labels.npy", np.array([1, 0, 1]))
expected["arrays"] = {
    "color": pixels[1].flatten().tolist(),
    "grey": np.rint(grey[2] * 255).astype(int).flatten().tolist(),
}
# Keypoints, as COCO has them: an object with, one without, one of a category that has none.
(HERE / "keypoints/annotations").mkdir(parents=True)
objects = [
    {"id": 7, "category_id": 1, "keypoints": [3, 2, 2, 4.5, 2, 1, 0, 0, 0], "num_keypoints": 2},
    {"id": 3, "category_id": 1, "keypoints": [0, 0, 0, 9, 4, 2, 8.25, 3, 2], "num_keypoints": 2},
    {"id": 5, "category_id": 2},
]
for entry in objects:
    entry.update(image_id=1, bbox=[2, 1, 8, 4], area=32, iscrowd=0)
points = {
    "images": [{"id": 1, "file_name": "1.png", "height": 6, "width": 12}],
    "annotations": objects,
    "categories": [
        {"id": 1, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]]},
        {"id": 2, "name": "ball"},
    ],
}
image(HERE / "keypoints/train/1.png", 6, 12)
file = HERE / "keypoints/annotations/person_keypoints_train.json"
file.write_text(json.dumps(points))
read = COCO(file)
expected["keypoints"] = [
    np.array(entry.get("keypoints", [0] * 9), dtype=np.float32).reshape(3, 3).tolist()
    for entry in read.loadAnns(read.getAnnIds(imgIds=1))
]
(HERE / "expected.json").write_text(json.dumps(expected) + "\n")
