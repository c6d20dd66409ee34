"""Records of runs as a run leaves them, made up: nothing is trained."""

import json
from base64 import b64encode
from dataclasses import asdict

from helpers import make_config

from fmnist.config.parse import config_hash
from fmnist.program.files import replacing
from fmnist.report.comparison import comparisons, read
from fmnist.report.page import pictures

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


def leave_mistakes(directory, confusion=((8, 2), (1, 9)), classes=("shirt", "boot"), probability=0.9, epoch=3, **other):
    """What a classifier leaves of its mistakes: 2x3 images, one mistake for each cell with a wrong class."""
    wrong = [(a, b) for a, row in enumerate(confusion) for b, count in enumerate(row) if a != b and count]
    worst = [
        {"image": number, "label": a, "predicted": b, "probability": probability - number / 100,
         "pixels": b64encode(bytes([number, 50, 100, 150, 200, 250])).decode()}
        for number, (a, b) in enumerate(wrong)
    ]  # fmt: skip
    content = {"epoch": epoch, "classes": list(classes), "size": [2, 3], "confusion": confusion, "worst": worst}
    (directory / "mistakes.json").write_text(json.dumps(content | other), encoding="utf-8")
    return directory


def weigh(directory, parameters):
    """The header of a checkpoint of a network with so many parameters, and no more of the file."""
    shapes = {"/weights/0.weight": [parameters - 2, 1], "/weights/0.bias": [2], "/weights/1.running_mean": [7],
              "/best/weights/0.weight": [parameters, 1]}  # fmt: skip
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps(header | {"__metadata__": {"state": "{}"}}).encode()
    (directory / "last.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    return directory


def names_of(root):
    """The names of the pictures that the report on the runs below a directory has."""
    return [picture.name for picture in pictures(comparison_of(root)) if not isinstance(picture, str)]


def comparison_of(root):
    """The only comparison of the runs below a directory."""
    (comparison,) = comparisons(read([root]))
    return comparison
