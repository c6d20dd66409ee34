"""What the record of a run says, checked: a file may be damaged, or be none of ours."""

import json
from base64 import b64decode
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.config.parse import flat
from fmnist.config.schema import BEFORE, SEEDS, kind
from fmnist.program.reading import contents, opened, parsed
from fmnist.record.result import LARGEST, RENAMED, read_rows

MOST = 1e150  # a larger metric is no measurement, and its square overflows
HEADER, MISTAKES = 1 << 24, 1 << 24  # bytes of the header of a checkpoint, of mistakes.json
CLASSES, IMAGES = 256, 64  # in mistakes.json, at most
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # stand among the weights, and are not trained


@dataclass(frozen=True)
class Mistake:
    """A test image that is taken for another class. image: its number. label, predicted: numbers of classes.
    probability: of the class that it is taken for. pixels: its grey levels, row by row."""

    image: int
    label: int
    predicted: int
    probability: float
    pixels: bytes


@dataclass(frozen=True)
class Mistakes:
    """What a classifier gets wrong. classes: their names. size: height and width of an image. confusion: how many
    images of a class (row) are taken for which (column). worst: the wrong ones of which the run is most sure."""

    classes: list[str]
    size: tuple[int, int]
    confusion: list[list[int]]
    worst: list[Mistake]


def knobs(config: Any) -> dict[str, Any]:
    """The config of a record, flat. A knob that came later has the value by which older runs did what they did.

    Raises KeyError for a config without a model and ValueError for one that no run has.
    """
    found = flat(_table(config, "config"))
    found |= {name: value for name, value in BEFORE.items() if name not in found}
    found.setdefault("norm", "batch" if found.get("batch_norm") else None)
    for name, value in found.items():
        for element in value if isinstance(value, list) else [value]:
            if not isinstance(element, str | int | float | None):
                raise ValueError(f"{name} must be a number or a name, got {element!r:.40}")
            if isinstance(element, float) and not isfinite(element):
                raise ValueError(f"{name} must be finite, got {element}")
    model = found["model.name"]
    try:
        kind(str(model))
    except KeyError:
        raise ValueError(f"model.name must be a model, got {model!r:.40}") from None
    for name in SEEDS:
        if type(found[name]) is not int:
            raise ValueError(f"{name} must be a whole number, got {found[name]!r:.40}")
    return found


def metrics(value: Any, name: str) -> dict[str, float]:
    """Metrics by tag, without those that are not defined. Raises ValueError for anything else."""
    numbers = {tag: number(metric, tag) for tag, metric in _table(value, name).items()}
    return {tag: metric for tag, metric in numbers.items() if metric is not None}


def undefined(directory: Path) -> list[str]:
    """The tags of the final metrics that are not defined, by the names that they have today."""
    metrics = json.loads(contents(directory / "result.json", LARGEST))["metrics"]
    return [RENAMED.get(tag, tag) for tag, value in metrics.items() if number(value, tag) is None]


def number(value: Any, name: str) -> float | None:
    """A number, None for null, nan and infinity: it is not defined. Raises ValueError for anything else."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{name} must be a number, got {value!r:.40}")
    return float(value) if value is not None and abs(value) < MOST else None


def rows(directory: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl without their times. A crash may have cut short the last line; other damage raises
    ValueError."""
    found = []
    for place, row in enumerate(read_rows(directory), start=1):
        if row is None:
            raise ValueError(f"line {place} cannot be read")
        row.pop("time", None)
        found.append(metrics(row, f"line {place}"))
    return found


def parameters(directory: Path) -> int | None:
    """How many parameters a run's network has, by the header of its checkpoint; None without one that can be read."""
    try:
        with opened(directory / "last.safetensors") as file:
            length = int.from_bytes(file.read(8), "little")
            header = _table(parsed(file.read(length)) if length <= HEADER else None, "header")
        names = [name for name in header if name.startswith("/weights/") and name.split(".")[-1] not in STATISTICS]
        shapes = [_wholes(header[name]["shape"]) for name in names]
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None
    return sum(map(prod, shapes)) or None


def mistakes(directory: Path, epoch: int) -> Mistakes | None:
    """What a classifier that was trained for so many epochs has left of its mistakes; None where it has left nothing,
    or not of these weights. Raises UserError, ValueError and OSError where that cannot be read."""
    try:
        found = _table(parsed(contents(directory / "mistakes.json", MISTAKES)), "mistakes.json")
    except FileNotFoundError:
        return None
    try:
        if found["epoch"] != epoch:
            return None
        classes = [str(name) for name in found["classes"]]
        height, width = _wholes(found["size"])
        confusion = [_wholes(row) for row in found["confusion"]]
        worst = [_mistake(each) for each in found["worst"]]
    except (KeyError, TypeError, AttributeError, OverflowError) as problem:
        raise ValueError(f"it is not a run's ({problem})") from None
    few = len(classes) <= CLASSES and len(worst) <= IMAGES
    square = {len(classes)} == {len(row) for row in confusion} and len(confusion) == len(classes)
    inside = all(max(each.label, each.predicted) < len(classes) and 0 <= each.probability <= 1 for each in worst)
    if not (few and square and inside and all(len(each.pixels) == height * width > 0 for each in worst)):
        raise ValueError("it is not a run's (sizes do not fit)")
    return Mistakes(classes, (height, width), confusion, worst)


def _mistake(each: Any) -> Mistake:
    image, label, predicted = _wholes([each[name] for name in ("image", "label", "predicted")])
    return Mistake(image, label, predicted, float(each["probability"]), b64decode(each["pixels"], validate=True))


def _wholes(values: Any) -> list[int]:
    """Whole numbers from 0 on. Raises ValueError for anything else."""
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 1 << 53 for value in values):
        raise ValueError(f"must be whole numbers, got {values!r:.40}")
    return values


def _table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a table of names and values, got {value!r:.40}")
    return value
