"""What classifiers get wrong in the test set: which class is taken for which, and the worst mistakes.

A run leaves it in mistakes.json, the pictures of these images included. So a report needs neither weights nor data.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmnist.nn.losses import Classification
from fmnist.nn.step import outputs
from fmnist.record.files import replacing
from fmnist.view.measure import Seen
from fmnist.view.metrics import by_class

FILE = "mistakes.json"
WORST = 16  # images


def mistakes(stack: Seen, runs: Sequence[int]) -> list[dict[str, Any]]:
    """For each of these runs: the names of the classes, the size of an image (height, width), how many images of a
    class (row) are taken for which (column), and the wrong ones that the run is most sure of, the surest first.

    Of each of these: its number among the test images, its class, the class it is taken for and with which
    probability, and its grey levels, row by row, in base64.
    """
    dataset, criterion = stack.dataset, stack.criterion
    assert isinstance(criterion, Classification)
    labels = dataset.test.labels
    taken, sure = [], []
    for output, _, _ in outputs(stack.model, criterion, stack.input(dataset.test), labels, stack.common.precision):
        taken.append(criterion.predict(output))
        sure.append(_probabilities(output, criterion).gather(-1, taken[-1].unsqueeze(-1)).squeeze(-1))
    predicted, probability = torch.cat(taken, -1), torch.cat(sure, -1)
    found = []
    for run in runs:
        counts, _, _ = by_class(predicted[run], labels, dataset.classes)
        doubt = probability[run].masked_fill(predicted[run] == labels, -1.0).nan_to_num(-1.0)
        worst = [place for place in doubt.topk(min(WORST, len(labels))).indices.tolist() if doubt[place] >= 0]
        images = [
            {"image": place, "label": int(labels[place]), "predicted": int(predicted[run, place]),
             "probability": round(float(probability[run, place]), 6),
             "pixels": b64encode(bytes(dataset.test.images[place].tolist())).decode()} for place in worst
        ]  # fmt: skip
        size = [dataset.height, dataset.width]
        found.append({"classes": list(dataset.names), "size": size, "confusion": counts, "worst": images})
    return found


def _probabilities(output: Tensor, criterion: Classification) -> Tensor:
    """Of each class, (K, rows, classes). Where a loss makes each class a distribution over the rows, these are brought
    to a sum of one for each row."""
    return (output.log_softmax(-2) if criterion.couples_rows else output).float().softmax(-1)


def write(found: dict[str, Any], folder: Path, epoch: int) -> Path:
    """Write what `mistakes` found of one run into a folder. epoch: how long it was trained, which tells whether the
    file is of the same weights as the record beside it."""
    with replacing(folder / FILE) as file:
        json.dump({"epoch": epoch} | found, file, separators=(",", ":"))
    return folder / FILE
