"""Writes a COCO file as large as train2017's: 118,287 images, 860,001 annotations, about 450 MB.

    python3 scripts/big_annotations.py FOLDER
    /usr/bin/time -v pipe score FOLDER/big.json FOLDER/none.json --detected-only

writes `big.json` and `none.json`, a results file without results: scoring it reads the annotations and does no more.
"""

import pathlib
import random
import sys

IMAGES, ANNOTATIONS, CATEGORIES = 118_287, 860_001, [i for i in range(1, 91) if i % 9]


def polygon(dice):
    """Coordinates with two decimals; the number of points is spread as widely as COCO's."""
    points = min(3 + int(dice.expovariate(1 / 20)), 300)
    return "[" + ", ".join(f"{dice.uniform(0, 640):.2f}" for _ in range(2 * points)) + "]"


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "big.json"
    dice = random.Random(0)
    shapes = [polygon(dice) for _ in range(5000)]
    images = (
        f'{{"license": 3, "file_name": "{i:012}.jpg", "coco_url": "http://images.cocodataset.org/train2017/{i:012}.jpg", '
        f'"height": 480, "width": 640, "date_captured": "2013-11-14 11:18:45", "id": {i}}}'
        for i in range(1, IMAGES + 1)
    )

    def annotation(i):
        image, category = dice.randint(1, IMAGES), dice.choice(CATEGORIES)
        if i % 86 == 0:
            shape, crowd = '{"counts": [' + ", ".join(["1024"] * 300) + '], "size": [480, 640]}', 1
        else:
            shape, crowd = "[" + ", ".join(dice.choices(shapes, k=1 + (i % 10 == 0))) + "]", 0
        return (
            f'{{"segmentation": {shape}, "area": {dice.uniform(10, 9e4):.4f}, "iscrowd": {crowd}, "image_id": {image}, '
            f'"bbox": [{dice.uniform(0, 300):.2f}, {dice.uniform(0, 200):.2f}, 120.5, 99.25], '
            f'"category_id": {category}, "id": {i}}}'
        )

    with open(path, "w") as file:
        file.write('{"info": {"year": 2017}, "images": [')
        file.write(", ".join(images))
        file.write('], "annotations": [')
        for i in range(1, ANNOTATIONS + 1):
            file.write(("" if i == 1 else ", ") + annotation(i))
        file.write('], "categories": [')
        file.write(", ".join(f'{{"supercategory": "thing", "id": {c}, "name": "c{c}"}}' for c in CATEGORIES) + "]}")
    (folder / "none.json").write_text("[]")
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB")


main()
