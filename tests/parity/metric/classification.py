"""Numbers of Ignite's metrics on a small fixed problem, for crates/components/src/metric.

    python3 tests/parity/metric/classification.py

Needs torch 2.11 and pytorch-ignite 0.5. Writes classification.json beside itself. Every class occurs: Ignite averages over
all classes, this project over those that occur.
"""

import json
import pathlib

import torch
from ignite import metrics as m


def one(metric, batches):
    metric.reset()
    for batch in batches:
        metric.update(batch)
    value = metric.compute()
    return value.tolist() if isinstance(value, torch.Tensor) else value


def main():
    generator = torch.Generator().manual_seed(7)
    logits = (torch.randn(23, 4, generator=generator) * 100).round() / 100
    label = torch.randint(0, 4, (23,), generator=generator)
    logits[torch.arange(23), label] += 0.75
    sizes = [8, 8, 7]
    batches = list(zip(logits.split(sizes), label.split(sizes)))
    values = {"accuracy": one(m.Accuracy(), batches)}
    for k in (1, 2, 3):
        values[f"top_{k}"] = one(m.TopKCategoricalAccuracy(k=k), batches)
    for name, metric in (("precision", m.Precision), ("recall", m.Recall)):
        for average in ("macro", "micro", "weighted", None):
            values[f"{name} {str(average).lower()}"] = one(metric(average=average), batches)
    precision = torch.tensor(values["precision none"], dtype=torch.float64)
    recall = torch.tensor(values["recall none"], dtype=torch.float64)
    for beta in (0.5, 1.0, 2.0):
        # Ignite's Fbeta: (1 + b²) p r / (b² p + r), from its own precision and recall.
        f = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
        values[f"f_beta {beta}"] = f.mean().item()
    values["confusion"] = one(m.ConfusionMatrix(num_classes=4), batches)

    scores = (torch.randn(3, 4, 6, 5, generator=generator) * 100).round() / 100
    classes = torch.randint(0, 4, (3, 6, 5), generator=generator)
    classes[torch.rand(3, 6, 5, generator=generator) < 0.15] = 255
    flat_scores, flat = scores.permute(0, 2, 3, 1).reshape(-1, 4), classes.reshape(-1)
    counted = [(flat_scores[flat != 255], flat[flat != 255])]
    matrix = m.ConfusionMatrix(num_classes=4)
    values["iou"] = one(m.IoU(matrix), counted)
    values["mean_iou"] = one(m.mIoU(m.ConfusionMatrix(num_classes=4)), counted)
    values["pixel_accuracy"] = one(m.Accuracy(), counted)
    rounded = lambda t: json.loads(json.dumps(t.double().mul(100).round().div(100).tolist()))
    data = {
        "sizes": sizes, "logits": rounded(logits), "label": label.tolist(),
        "segmentation_logits": rounded(scores), "segmentation": classes.tolist(), "values": values,
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in data.items()]
    pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
