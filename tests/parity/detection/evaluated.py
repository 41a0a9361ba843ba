"""Makes evaluated.json: training's losses of detectors whose norms and dropout are as in evaluation. Run in this folder with torchvision 0.26.

What is sampled is drawn for each image after a seed of its own: the image's key, plus one with each further draw."""

import json

import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from make import CASES, ONE_STAGE, TEST, fill, images, model, of_one_stage, targets

KEYS = [11, 2023]
drawn = BalancedPositiveNegativeSampler.__call__
draws = 0


def keyed(self, matched):
    global draws
    positive, negative = [], []
    for key, labels in zip(KEYS, matched):
        torch.manual_seed(key + draws)
        of_image = drawn(self, [labels])
        positive += of_image[0]
        negative += of_image[1]
    draws += 1
    return positive, negative


BalancedPositiveNegativeSampler.__call__ = keyed
out = {}
for name in [*CASES, *ONE_STAGE]:
    made = of_one_stage(name) if name in ONE_STAGE else model(**CASES[name], **TEST)
    with torch.no_grad():
        fill(made)
        made.train()
        for module in made.modules():
            if isinstance(module, (torch.nn.modules.batchnorm._BatchNorm, torch.nn.Dropout)):
                module.eval()
        draws = 0
        out[name] = {key: loss.item() for key, loss in made(images(), targets()).items()}
with open("evaluated.json", "w") as file:
    json.dump(out, file, separators=(",", ":"))
