"""What classifiers get wrong in the test set: which class is taken for which, and the worst mistakes.

A run leaves it in mistakes.json, the pictures of these images included. So a report needs neither weights nor data.
"""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from fmnist.program.files import replacing
from fmnist.view.measure import Seen
from fmnist.view.tally import Tally

FILE = "mistakes.json"
WORST = 16  # images


def mistakes(stack: Seen, run: int, seen: Tally) -> dict[str, Any]:
    """Of one run: the names of the classes, the size of an image (height, width), how many images of a class (row) are
    taken for which (column), and the wrong ones that the run is most sure of, the surest first.

    Of each of these: its number among the test images, its class, the class it is taken for and with which
    probability, and its grey levels, row by row, in base64.
    """
    dataset = stack.dataset
    worst = zip(*(each[run, :WORST].tolist() for each in (seen.worst, seen.taken, seen.confidence)), strict=True)
    images = [
        {"image": place, "label": int(dataset.test.labels[place]), "predicted": taken, "probability": round(sure, 6),
         "pixels": b64encode(bytes(dataset.test.images[place].tolist())).decode()}
        for place, taken, sure in worst if place >= 0
    ]  # fmt: skip
    size, counts = [dataset.height, dataset.width], seen.confusion[run].tolist()
    return {"classes": list(dataset.names), "size": size, "confusion": counts, "worst": images}


def write(found: dict[str, Any], folder: Path, epoch: int) -> Path:
    """Write what `mistakes` found of one run into a folder. epoch: how long it was trained, which tells whether the
    file is of the same weights as the record beside it."""
    with replacing(folder / FILE) as file:
        json.dump({"epoch": epoch} | found, file, separators=(",", ":"))
    return folder / FILE
