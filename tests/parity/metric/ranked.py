"""Numbers of scikit-learn's roc_auc_score and average_precision_score, for crates/components/src/metric.

    python3 tests/parity/metric/ranked.py

Needs scikit-learn 1.9 and numpy. Writes ranked.json beside itself. Scores are coarse, so that many are tied.
"""

import json
import pathlib

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import label_binarize

SCORES = {"roc_auc": roc_auc_score, "average_precision": average_precision_score}


def case(seed, samples, classes):
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, samples)
    logits = np.round(random.normal(size=(samples, classes)) * 4) / 4
    logits[np.arange(samples), label] += 0.5
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # What is tied in exact arithmetic is tied here.
    scores = np.round(scores, 12)
    values = {}
    for name, score in SCORES.items():
        if classes == 2:
            values[f"{name} macro"] = score(label, scores[:, 1])
            values[f"{name} none"] = [score(label == c, scores[:, c]) for c in range(2)]
            continue
        one_hot = label_binarize(label, classes=range(classes))
        for average in ("macro", "weighted", "micro", None):
            value = score(one_hot, scores, average=average)
            values[f"{name} {str(average).lower()}"] = value.tolist() if average is None else value
    assert classes == 2 or np.isclose(values["roc_auc macro"], roc_auc_score(label, scores, multi_class="ovr"))
    return {"logits": logits.tolist(), "label": label.tolist(), "values": values}


def main():
    cases = [case(1, 30, 2), case(2, 41, 2), case(3, 40, 4)]
    lines = ",\n".join(json.dumps(one) for one in cases)
    pathlib.Path(__file__).with_suffix(".json").write_text('{"cases": [\n' + lines + "\n]}\n")


main()
