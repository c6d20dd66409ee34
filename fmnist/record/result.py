"""What a run has left: result.json, written and read, metrics.jsonl read back, and how a run ended."""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.config.parse import config_hash, flat, parse
from fmnist.config.schema import AUGMENTATIONS, BEFORE, NOT_HASHED, WHOLE, Config, Kind, Knobs
from fmnist.program.files import replacing
from fmnist.program.reading import check_plain, contents, numeric, parsed

RENAMED = {"test/gaps": "test/holes"}  # tags of older records
FACTS = ("epoch", "time")  # what a row has beside its metrics
LARGEST, LARGEST_ROWS, LONGEST = 1 << 22, 1 << 30, 1 << 20  # bytes of a result, of all rows, of a row
KINDS: dict[str, Any] = {"status": str, "epoch": int, "config": dict, "config_hash": str, "metrics": dict | None,
                         "commits": list | None, "kernels": dict | None, "objective": int | float | None}  # fmt: skip
KEPT = ("train.log", ".hydra", "figures", "layers.jsonl", "train", "validation", "fit")  # not replaced when written


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its objective (the validation metric it is judged by), its final metrics by tag, its error."""

    objective: float | None
    metrics: dict[str, float]
    error: str | None = None


def read_result(directory: Path) -> dict[str, Any] | None:
    """A run's result.json, or None where no run was started. Raises UserError if it is damaged or cannot be read."""
    file = directory / "result.json"
    try:
        result: dict[str, Any] = parsed(contents(file, LARGEST))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): remove it to start this run anew") from None
    if not isinstance(result, dict) or not all(isinstance(result.get(name), kind) for name, kind in KINDS.items()):
        raise UserError(f"{file} is damaged (not a run's): remove it to start this run anew")
    if isinstance(metrics := result.get("metrics"), dict):
        result["metrics"] = measured(metrics)
    return result


def read_rows(directory: Path) -> list[dict[str, float] | None]:
    """The rows of metrics.jsonl: "epoch", "time" (in seconds since 1970; older rows have none) and the tags. None for a
    line that is damaged. The last line is left out if a crash has cut it short."""
    try:
        *lines, last = contents(directory / "metrics.jsonl", LARGEST_ROWS).split(b"\n")
    except FileNotFoundError:
        return []
    return [*map(_row, lines), *filter(None, [_row(last)])]


def _row(line: bytes) -> dict[str, float] | None:
    try:
        row = measured(parsed(line)) if len(line) < LONGEST else {}
    except (ValueError, AttributeError):
        return None
    whole = numeric(row.values()) and "".join(row).isprintable() and type(row.get("epoch")) is int
    return row if whole else None


def measured(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics that have a value, by the tags that they have today. Where one is not defined the record has null."""
    return {RENAMED.get(tag, tag): value for tag, value in metrics.items() if value is not None}


def write_result(directory: Path, result: dict[str, Any]) -> None:
    """Write a run's result.json anew. A metric that is not defined becomes null."""
    with replacing(directory / "result.json") as file:
        file.write(json.dumps(result | {"metrics": defined(result.get("metrics") or {})}, indent=1) + "\n")


def defined(metrics: dict[str, float]) -> dict[str, float | None]:
    """Metrics as JSON can hold them: null for nan and infinity. The inverse of `measured`."""
    return {tag: value if math.isfinite(value) else None for tag, value in metrics.items()}


def of_run(directory: Path) -> Config:
    """The recorded config of the run in `directory`, but with device=auto: the run's own device may not be here. Raises
    UserError where there is no run."""
    result = read_result(directory)
    if result is None:
        raise UserError(f"no run found in {directory}: it has no result.json")
    return _recorded_config(result)


def _recorded_config(result: dict[str, Any]) -> Config:
    """The config of a record, as one says today what the run did: with younger knobs, and whole numbers of pixels."""
    config = BEFORE | result["config"] | {"device": "auto"}
    with suppress(AttributeError, TypeError):  # where it is damaged, parse says how
        config["augment"] = {name: value and value // 1 if AUGMENTATIONS.get(name) == WHOLE else value
                             for name, value in config.get("augment", {}).items()}  # fmt: skip
    return parse(config)


def check_data(directory: Path, digest: str, fact: str = "data") -> None:
    """Raise UserError if a run was trained on other "data" than those of this digest, or by another "teacher"."""
    if (there := (read_result(directory) or {}).get(fact) or None) not in (None, digest):
        other = "on other data" if fact == "data" else f"by another {fact}"
        raise UserError(f"{directory} was trained {other} ({there} there, {digest} here): their bytes differ")


def check_directory(
    config: Config, directory: Path, digest: Callable[[str, str | None], str] | None = None
) -> dict[str, Any] | None:
    """Raise UserError if the directory holds a run of another config; otherwise return what `read_result` gives for it.

    A knob may be younger than the run: where `config` has its default, it is set to what the run did. So the run goes
    on as it began. digest: of the data of a name and a place, by which the same data are known at another place.
    """
    check_plain(directory, KEPT)
    result = read_result(directory)
    if result is None or result["config_hash"] == config_hash(config):
        return result
    there = _recorded_config(result)
    for f in fields(Knobs):
        if f.name not in result["config"] and getattr(config, f.name) == getattr(Config(), f.name):
            setattr(config, f.name, getattr(there, f.name))
    if config_hash(there) != config_hash(config):
        old, new = (flat({k: v for k, v in asdict(c).items() if k not in NOT_HASHED}) for c in (there, config))
        changed = {k: f"{k}={old.get(k)} there, {new.get(k)} here" for k in {**old, **new} if old.get(k) != new.get(k)}
        if digest and list(changed) == ["data.dir"] and result.get("data"):
            check_data(directory, digest(config.data.name, config.data.dir))
            return result
        raise UserError(
            f"{directory} holds a run of another config ({'; '.join(changed.values())}): choose another hydra.run.dir"
        )
    return result


JUDGED = ("train", "validation", "test")
MANY = 9  # metrics of a group, such as the gradients by layer, from which on a line has their range alone


def metrics_in_words(metrics: dict[str, float], model: Kind | None = None) -> str:
    """Metrics (of a model: those with charts) for a person: "train loss 0.41 accuracy 0.85 ..."; nan is "undefined"."""
    groups: dict[str, dict[str, float]] = {}
    for tag, value in metrics.items():
        group, _, name = tag.partition("/")
        if name and (model is None or name in model.charts or group not in JUDGED):
            groups.setdefault(group, {})[name] = value
    return "  ".join(f"{group} {_group_in_words(group, own)}" for group, own in groups.items())


def _group_in_words(group: str, metrics: dict[str, float]) -> str:
    if len(metrics) > MANY and group not in JUDGED and (known := [v for v in metrics.values() if not math.isnan(v)]):
        return f"{len(metrics)} values from {min(known):.2g} to {max(known):.2g}"
    return " ".join(f"{name} {'undefined' if math.isnan(value) else f'{value:.4f}'}" for name, value in metrics.items())
