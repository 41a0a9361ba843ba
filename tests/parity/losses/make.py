"""Losses and their gradients for crates/vision/src/losses.rs and crates/components/src/model/loss.rs.

    python3 tests/parity/losses/make.py

Needs torch 2.11 and torchvision 0.26. Writes expected.json beside itself.
"""

import json
import pathlib

import torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss


def of(loss, *inputs):
    loss.sum().backward()
    return {"loss": loss.detach().flatten().tolist(), "gradients": [i.grad.flatten().tolist() for i in inputs]}


def wave(*shape):
    count = torch.Size(shape).numel()
    return (4 * torch.sin(torch.arange(count, dtype=torch.float64) * 0.7 + 0.3)).view(shape).requires_grad_(True)


def focal():
    targets = (torch.arange(24) % 5 == 0).double().view(6, 4)
    logits = wave(6, 4)
    return {"targets": targets.int().flatten().tolist(), **of(sigmoid_focal_loss(logits, targets), logits)}


def giou():
    a = [[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 2, 2], [1, 1, 9, 3], [5, 5, 6, 9], [0, 0, 1, 1]]
    b = [[0, 0, 4, 4], [2, 1, 6, 5], [5, 7, 8, 9], [3, 0, 4, 8], [5, 5, 6, 9.5], [1, 1, 2, 2]]
    a = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(b, dtype=torch.float64, requires_grad=True)
    return {"a": a.tolist(), "b": b.tolist(), **of(generalized_box_iou_loss(a, b), a, b)}


def focal_of_classes(scores, labels, gamma, weights):
    """Lin et al. 2017 for one class among several; with gamma 0 it is torch's cross_entropy, which `main` makes sure of."""
    log_p = scores.log_softmax(1)
    lost = -((1 - log_p.exp()) ** gamma) * log_p
    if labels.is_floating_point():
        shape = [1, -1] + [1] * (scores.dim() - 2)
        return (lost * labels * weights.view(shape)).sum(1).mean()
    return F.nll_loss(-lost, labels, weight=weights, ignore_index=255)


def classes():
    """Of [5, 4] and [2, 4, 3, 2], some labels ignored, and of probabilities."""
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0])
    ones = torch.ones(4)
    cases = []
    for shape in [(5, 4), (2, 4, 3, 2)]:
        of = (shape[0], *shape[2:])
        labels = (torch.arange(torch.Size(of).numel()) * 7 % 5).view(of)
        labels[labels == 4] = 255
        soft = (torch.arange(torch.Size(shape).numel()).view(shape) * 0.9).cos().softmax(1)
        for target in [labels, soft]:
            ignored = {} if target.is_floating_point() else {"ignore_index": 255}
            for smoothing, weighted in [(0.0, False), (0.1, False), (0.0, True), (0.1, True)]:
                scores = (2 * torch.sin(torch.arange(torch.Size(shape).numel()) * 0.7 + 0.3)).view(shape).requires_grad_(True)
                weight = weights if weighted else None
                value = F.cross_entropy(scores, target, weight=weight, label_smoothing=smoothing, **ignored)
                loss = {"type": "cross_entropy", "label_smoothing": smoothing}
                cases.append((loss, scores, target, weighted, value))
            for gamma, weighted in [(2.0, False), (1.5, True), (0.0, True)]:
                scores = (2 * torch.sin(torch.arange(torch.Size(shape).numel()) * 0.7 + 0.3)).view(shape).requires_grad_(True)
                value = focal_of_classes(scores, target, gamma, weights if weighted else ones)
                if gamma == 0:
                    assert torch.allclose(value, F.cross_entropy(scores, target, weight=weights, **ignored))
                cases.append(({"type": "focal", "gamma": gamma}, scores, target, weighted, value))
    out = []
    for loss, scores, target, weighted, value in cases:
        value.backward()
        loss["class_weights"] = weights.tolist() if weighted else []
        name = "probabilities" if target.is_floating_point() else "labels"
        out.append({
            "loss": loss, "shape": list(scores.shape), name: target.flatten().tolist(), "value": value.item(),
            "gradient": scores.grad.flatten().tolist(),
        })
    return out


def main():
    out = {"sigmoid_focal_loss": focal(), "generalized_box_iou_loss": giou(), "classes": classes()}
    path = pathlib.Path(__file__).with_name("expected.json")
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")


main()
