"""What the record of a run says, checked: a file may be damaged, or be none of ours."""

import json
from math import isfinite
from pathlib import Path
from typing import Any

from fmnist.config.parse import flat
from fmnist.config.schema import BEFORE, SEEDS, kind
from fmnist.program.reading import contents
from fmnist.record.result import LARGEST, RENAMED, read_rows

MOST = 1e150  # a larger metric is no measurement, and its square overflows


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


def _table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a table of names and values, got {value!r:.40}")
    return value
