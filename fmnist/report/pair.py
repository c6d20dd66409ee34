"""Two runs side by side, from their records alone: what differs between them, and where their curves part."""

from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.config.parse import flat
from fmnist.config.schema import kind
from fmnist.record.result import read_result
from fmnist.report.comparison import Result, read_one
from fmnist.report.words import counted

ROUNDING = 1e-4  # a relative difference up to which two curves are the same but for rounding
FACTS = ("commit", "versions", "kernels", "machine")  # what else than the config and the data decides a run


def record_of(directory: Path) -> Result:
    """The record of a run. Raises UserError where there is none that can be read, or none of a single run."""
    run = read_one(directory)
    if run.status == "unstarted":
        below = len([*directory.rglob("result.json")])
        if below:
            raise UserError(f"{directory} has {counted(below, 'run')} below it: name two runs; "
                            "python -m fmnist.report compares sweeps")  # fmt: skip
        raise UserError(f"no run found in {directory}: it has no result.json")
    if run.status == "unreadable":
        raise UserError(f"{directory}: {run.error}")
    try:
        _ = run.rows
    except (OSError, ValueError) as problem:
        raise UserError(f"{directory}/metrics.jsonl: {problem}") from None
    return run


def check_kinds(one: Result, other: Result) -> None:
    """Raise UserError where two runs have no metric in common."""
    words = ["a classifier" if kind(run.knobs["model.name"]).classifies else "an autoencoder" for run in (one, other)]
    if words[0] != words[1]:
        raise UserError(f"two classifiers can be compared, or two autoencoders: {one.directory} is {words[0]} and "
                        f"{other.directory} {words[1]}")  # fmt: skip


def differences(one: Result, other: Result) -> dict[str, Any]:
    """What differs, each with its value in the one and in the other: "knobs"; "facts", of the code, the versions, the
    kernels and the machine. "same_data" by their bytes, None where a record does not say; "same_facts", by name."""
    knobs = {name: [run.knobs.get(name) for run in (one, other)] for name in {**one.knobs, **other.knobs}}
    del knobs["batch_norm"]  # norm says it
    known = [read_result(run.directory) or {} for run in (one, other)]
    facts = {name: [flat({name: result.get(name)}) for result in known] for name in FACTS}
    changed = {
        key: [own.get(key) for own in pair]
        for pair in facts.values() for key in {**pair[0], **pair[1]} if pair[0].get(key) != pair[1].get(key)
    }  # fmt: skip
    return {
        "knobs": {name: pair for name, pair in knobs.items() if pair[0] != pair[1]},
        "same_data": one.data == other.data if one.data and other.data else None,
        "same_facts": [name for name, pair in facts.items() if pair[0] == pair[1]], "facts": changed,
    }  # fmt: skip


def same_loss(one: Result, other: Result) -> bool:
    """Whether the losses of two runs mean the same."""
    names = [(kind(run.knobs["model.name"]).classifies or run.knobs["model.name"], run.knobs["loss"])
             for run in (one, other)]  # fmt: skip
    return names[0] == names[1]


def parting(one: Result, other: Result) -> dict[str, Any]:
    """Where two curves part, among the epochs and metrics that both have recorded: the first epoch at which one differs
    "at_all", and by more than "rounding", with the tags that do; None where none does. Losses that mean different
    things are left out."""
    mine, theirs = ({int(row["epoch"]): row for row in run.rows} for run in (one, other))
    found: dict[str, Any] = {"epochs": len(mine.keys() & theirs.keys()), "at_all": None, "rounding": None}
    alike = same_loss(one, other)
    for epoch in sorted(mine.keys() & theirs.keys()):
        a, b = mine[epoch], theirs[epoch]
        shared = (tag for tag in a if a[tag] != b.get(tag, a[tag]) and (alike or not tag.endswith("/loss")))
        tags = {tag: abs(a[tag] - b[tag]) / max(abs(a[tag]), abs(b[tag])) for tag in shared}
        for name, least in (("at_all", 0.0), ("rounding", ROUNDING)):
            apart = [tag for tag, distance in tags.items() if distance > least]
            if apart and not found[name]:
                found[name] = {"epoch": epoch, "metrics": apart}
    return found


def curve_tags(one: Result, other: Result) -> list[str]:
    """The tags of the curves that both have and that mean the same."""
    charts = dict.fromkeys(name for run in (one, other) for name in kind(run.knobs["model.name"]).charts)
    metrics = [name for name in charts if name != "loss" or same_loss(one, other)]
    wanted = [f"{part}/{metric}" for metric in metrics for part in ("train", "validation")]
    return [tag for tag in wanted if all(any(tag in row for row in run.rows) for run in (one, other))]


def curves(one: Result, other: Result) -> dict[str, list[dict[str, float]]]:
    """Both curves in short, by tag: the first value, the best one and the last one, each with its epoch."""
    return {tag: [_in_short(run, tag) for run in (one, other)] for tag in curve_tags(one, other)}


def _in_short(run: Result, tag: str) -> dict[str, float]:
    better = max if tag.endswith("/accuracy") else min
    points = [(row[tag], int(row["epoch"])) for row in run.rows if tag in row]
    value = better(value for value, _ in points)
    shown = {"first": points[0], "best": next(point for point in points if point[0] == value), "last": points[-1]}
    return {key: each for name, (own, epoch) in shown.items() for key, each in ((name, own), (f"{name}_epoch", epoch))}
