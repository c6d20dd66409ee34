"""Records of runs as a run leaves them, made up: nothing is trained."""

import json
from dataclasses import asdict

from helpers import make_config

from fmnist.config.parse import config_hash
from fmnist.record.files import replacing
from fmnist.report.comparison import comparisons, read

SMALL = {"data.limit": 500, "model.hidden": [20]}


def write_run(directory, objective, status="done", model="mlp", test=None, epochs=3, error=None, **knobs):
    """A run's record, with a curve that ends at `objective`; one with data.split=1 has no validation rows."""
    config = make_config(model, epochs=epochs, **(SMALL | knobs))
    metric = "accuracy" if model == "mlp" else "loss"
    parts = ("train",) if config.data.split == 1 else ("train", "validation")
    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch}
        for number, part in enumerate(parts, start=2):
            row |= {f"{part}/loss": number / epoch, f"{part}/{metric}": objective * epoch / epochs}
        rows.append(row)
    metrics = {tag: value for tag, value in rows[-1].items() if tag != "epoch"}
    metrics |= {"test/loss": 1.0, f"test/{metric}": objective - 0.01 if test is None else test}
    done = {"objective": objective, "metrics": metrics} if status == "done" else {"metrics": {}}
    result = {
        "status": status, "error": error, "epoch": epochs, "best": None, "seconds": 2.0,
        "config_hash": config_hash(config), "config": asdict(config), "commit": "a" * 40, "versions": {},
    }  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with replacing(directory / "result.json") as file:
        file.write(json.dumps(result | done))
    return directory


def change(directory, **values):
    """Write other values to a run's result.json; a value that is None is written as null."""
    result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    (directory / "result.json").write_text(json.dumps(result | values))


def change_config(directory, **values):
    """Give a run's record other knobs, of the top level, and another hash."""
    result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    change(directory, config=result["config"] | values, config_hash=str(values))


def sweep(root, values, **fixed):
    """Runs 0, 1, 2 ... of a grid: values maps knobs to accuracies, one per seed."""
    number = 0
    for knobs, accuracies in values:
        for seed, accuracy in enumerate(accuracies):
            write_run(root / str(number), accuracy, seed=seed, **knobs, **fixed)
            number += 1
    return root


def comparison_of(root):
    """The only comparison of the runs below a directory."""
    (comparison,) = comparisons(read([root]))
    return comparison
