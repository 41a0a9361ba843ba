"""Repeat factors for crates/data/src/sampling.rs.

    python3 tests/parity/sampler/make.py

Writes expected.json beside itself. The formula is that of Detectron2's
`RepeatFactorTrainingSampler.repeat_factors_from_category_frequency`, which need not be installed.
"""

import json
import math
import pathlib
from collections import defaultdict


def repeat_factors(images, repeat_thresh):
    # 1. For each category c, compute the fraction of images that contain it: f(c)
    category_freq = defaultdict(int)
    for categories in images:
        for category in set(categories):
            category_freq[category] += 1
    category_freq = {category: count / len(images) for category, count in category_freq.items()}
    # 2. For each category c, compute the category-level repeat factor: r(c) = max(1, sqrt(t / f(c)))
    category_rep = {
        category: max(1.0, math.sqrt(repeat_thresh / frequency)) for category, frequency in category_freq.items()
    }
    # 3. For each image I, compute the image-level repeat factor: r(I) = max_{c in I} r(c)
    return [max((category_rep[category] for category in set(image)), default=1.0) for image in images]


def main():
    # Categories by falling frequency, several in an image, none in some.
    images = []
    for i in range(60):
        images.append([c for c, every in enumerate([2, 3, 7, 29, 59], 1) if i % every == every // 2])
        images[-1] += images[-1][:1]
    factors = {str(t): repeat_factors(images, t) for t in [0.001, 0.1, 0.5, 1.0]}
    path = pathlib.Path(__file__).with_name("expected.json")
    path.write_text(json.dumps({"images": images, "factors": factors}, separators=(",", ":")) + "\n")


main()
