"""What a run has left, read back: result.json, metrics.jsonl, and how a run ended."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist import UserError
from fmnist.config.parse import config_hash, flat, parse
from fmnist.config.schema import NOT_HASHED, Config

if TYPE_CHECKING:
    pass


def read_result(directory: Path) -> dict[str, Any] | None:
    """A run's result.json, or None where no run was started. Raises UserError if it is damaged."""
    try:
        result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{directory}/result.json is damaged ({error}): remove it to start this run anew") from None
    if not isinstance(result, dict) or not {"status", "config", "config_hash"} <= result.keys():
        raise UserError(f"{directory}/result.json is damaged (not a run's): remove it to start this run anew")
    return result


def of_run(directory: Path) -> Config:
    """The config of a run that was started in `directory`, from its record, but for any device: the run's own may not
    be here. Raises UserError where there is no run."""
    result = read_result(directory)
    if result is None:
        raise UserError(f"no run found in {directory}: it has no result.json")
    return parse(result["config"] | {"device": "auto"})


def check_directory(config: Config, directory: Path) -> dict[str, Any] | None:
    """Refuse to mix two runs: a directory that holds a run can only be started again with the same config. What
    `read_result` gives for it."""
    result = read_result(directory)
    if result is None or result["config_hash"] == config_hash(config):
        return result
    there = of_run(directory)
    if config_hash(there) != config_hash(config):  # a knob that was added since has its default there
        old, new = (flat({k: v for k, v in asdict(c).items() if k not in NOT_HASHED}) for c in (there, config))
        changed = [f"{k}={old.get(k)} there, {new.get(k)} here" for k in {**old, **new} if old.get(k) != new.get(k)]
        raise UserError(
            f"{directory} holds a run of another config ({'; '.join(changed)}): choose another hydra.run.dir"
        )
    return result


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its objective (the validation figure it is judged by), its final metrics by tag, its error."""

    objective: float | None
    metrics: dict[str, float]
    error: str | None = None


def metrics_in_words(metrics: dict[str, float]) -> str:
    """The figures as words: "train loss 0.41 accuracy 0.85  validation loss ..."."""
    groups: dict[str, list[str]] = {}
    for tag, value in metrics.items():
        group, _, name = tag.partition("/")
        if name:
            groups.setdefault(group, []).append(f"{name} {value:.4f}")
    return "  ".join(f"{group} {' '.join(names)}" for group, names in groups.items())


def read_rows(directory: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl, up to a line that a crash cut short."""
    try:
        lines = (directory / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
