"""Hostile run directories, each with its verdict for all who read or continue a run: one line that names the file, or
nothing happens. No code of theirs runs, nothing beside them changes, and time and memory are bounded."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacks.hostile import (
    MATCH,
    a_pickle,
    bounded,
    config,
    endless,
    hydra_tags,
    instead,
    nested,
    pipe,
    result,
    rows,
    safetensors,
    snapshot,
    sparse,
    tensor,
    weights,
    zip_bomb,
)
from helpers import make_config, said, tiny
from training import quick_disk  # noqa: F401 - a fixture that serves each test

from fmnist import UserError, evaluate, figures, predict
from fmnist.launch.trouble import trouble
from fmnist.record.result import check_directory
from fmnist.report import __main__ as report
from fmnist.report.comparison import read
from fmnist.report.leaderboard import Leaderboard
from fmnist.sources.fetch import digest
from fmnist.train import engine

DAMAGED = "(is damaged|is of an older version)"
WORSE = r"result\.json is damaged"
OTHER = "holds a run of another config"


@dataclass(frozen=True)
class Attack:
    """make: changes a run's directory. evaluated: what evaluate and figures say, "" where they read the run. resumed:
    what training says, "" where it goes on. status: of the run in a report. predicted: what predict says, which needs
    no data; None: the same as evaluate."""

    make: Any
    evaluated: str = ""
    resumed: str = ""
    status: str = "interrupted"
    predicted: str | None = None


def sizes(height: int, width: int, names: Any = ("a", "b", "c", "d")) -> dict[str, Any]:
    """What a record says of the images."""
    return {"height": height, "width": width, "names": names}


ATTACKS = {
    "a pickle as last.pt": Attack(a_pickle("last.pt"), rf"last\.pt {DAMAGED}", rf"last\.pt {DAMAGED}"),
    "a pickle as last.safetensors": Attack(
        a_pickle("last.safetensors"), r"last\.safetensors is damaged", r"last\.safetensors is damaged"
    ),
    "a zip bomb as checkpoint": Attack(zip_bomb, rf"last\.{MATCH} is damaged", rf"last\.{MATCH} is damaged"),
    "a checkpoint of 1 TB": Attack(
        lambda run: sparse(weights(run), size=1 << 40), r"last.* must have at most", r"last.* must have at most"
    ),
    "a header of 10^15 bytes": Attack(safetensors({}, length=10**15), "is damaged", "is damaged"),
    "a header that promises 10^15 bytes": Attack(
        safetensors({"a": tensor([10**15 // 4], 0, 10**15)}), "is damaged", "is damaged"
    ),
    "tensors that overlap": Attack(
        safetensors({"a": tensor([4], 0, 16), "b": tensor([4], 8, 24)}, bytes(24)), "is damaged", "is damaged"
    ),
    "a checkpoint that is a pipe": Attack(
        lambda run: pipe(weights(run)), "last.* must be a plain file", "last.* must be a plain file"
    ),
    "a checkpoint without end": Attack(
        lambda run: endless(weights(run)), "last.* must be a plain file", "last.* must be a plain file"
    ),
    "a record of 10 GB": Attack(
        lambda run: sparse(run / "result.json"),
        r"result\.json must have at most",
        r"result\.json must have at most",
        "unreadable",
    ),
    "a record that is a pipe": Attack(
        lambda run: pipe(run / "result.json"),
        r"result\.json must be a plain file",
        r"result\.json must be a plain file",
        "unreadable",
    ),
    "a record without end": Attack(
        lambda run: endless(run / "result.json"),
        r"result\.json must be a plain file",
        r"result\.json must be a plain file",
        "unreadable",
    ),
    "a record that is nested": Attack(lambda run: void_write(run, "[" * 100_000), WORSE, WORSE, "unreadable"),
    "a record that is not UTF-8": Attack(lambda run: void_write(run, b"\xff\xfe{}"), WORSE, WORSE, "unreadable"),
    "NaN for the epoch": Attack(result(epoch=float("nan")), WORSE, WORSE, "unreadable"),
    "infinity for metrics": Attack(
        result(metrics={"test/accuracy": float("inf"), "test/loss": float("nan")}), status="interrupted"
    ),
    "text for metrics": Attack(result(metrics="<b>"), WORSE, WORSE, "unreadable"),
    "an objective of text": Attack(result(status="done", objective="high"), WORSE, WORSE, "unreadable"),
    "done without an objective": Attack(lambda run: without(run, "objective"), "", "", "unreadable"),
    "commits that are lists": Attack(result(commits=[[1], {"a": 2}, None]), status="interrupted"),
    "kernels that are none": Attack(result(kernels={"wide": [1], "__class__": 3, "black": {}}), status="interrupted"),
    "a number of 400 digits": Attack(config(seed=10**400), "", OTHER),
    "a number of 400 digits for a rate": Attack(config(lr=10**400), "lr must be ", "lr must be "),
    "NaN for a rate": Attack(config(lr=float("nan")), "lr must be ", "lr must be ", "unreadable"),
    "10^9 layers": Attack(config(model={"name": "deep", "depth": 10**9}), "model.depth must be ", "model.depth"),
    "10^6 hidden layers": Attack(
        config(**{"model.hidden": [1] * 10**6}), "model.hidden must have at most 10000 numbers", "model.hidden"
    ),
    "10^9 units": Attack(
        config(**{"model.hidden": [10**9, 4]}), r"is \[6\] in the checkpoint, \[1000000000\] here|is ", OTHER
    ),
    "10^9 samples": Attack(
        config(model={"name": "vae", "iwae_samples": 10**9}), "model.iwae_samples must be", "model.iwae_samples"
    ),
    "a config with _target_": Attack(
        config(**{"model._target_": "os.system", "optim._target_": "os.system"}),
        "unknown knob model._target_",
        "unknown knob model._target_",
    ),
    "a config that is nested": Attack(config(model=nested(400)), "model|nested", "model|nested", "unreadable"),
    "a config of deep tables": Attack(
        config(model={"name": "mlp", "hidden": nested(300)}), "model.hidden|nested", "model.hidden|nested", "unreadable"
    ),
    "a name that is a list": Attack(
        config(**{"model.name": ["mlp"]}), "model.name must be", "model.name", "unreadable"
    ),
    "a reference to the environment": Attack(
        config(loss="${oc.env:HOME}"), r"loss must be a value, got the reference '\$\{oc.env:HOME\}'", "loss must be"
    ),
    "a path with a NUL": Attack(config(**{"data.dir": "/a\0b"}), "data.dir must be", "", predicted=""),
    "a path of half a letter": Attack(config(**{"data.dir": "/a\ud800b/c"}), "data.dir must be", "", predicted=""),
    "images of 10^18 pixels": Attack(result(images=sizes(10**9, 10**9)), predicted=r"result\.json is damaged"),
    "images of -3 x -2 pixels": Attack(result(images=sizes(-3, -2)), predicted=r"result\.json is damaged"),
    "10^5 classes": Attack(result(images=sizes(3, 2, ["a"] * 10**5)), predicted=r"result\.json is damaged"),
    "classes that are none": Attack(
        result(images=sizes(3, 2, [[], {}, 1, None])), predicted=r"result\.json is damaged"
    ),
    "images that are none": Attack(result(images=[1]), predicted=r"result\.json is damaged"),
    "a batch of 10^15 rows": Attack(config(batch_size=10**15), "", OTHER),
    "rows of 10 GB": Attack(
        lambda run: sparse(run / "metrics.jsonl"), "", r"metrics\.jsonl must have at most", "unreadable"
    ),
    "rows that are a pipe": Attack(
        lambda run: pipe(run / "metrics.jsonl"), "", r"metrics\.jsonl must be a plain file", "unreadable"
    ),
    "a row of 100 MB": Attack(rows('{"epoch": 1, "a": [' + "[]," * 33_000_000 + "[]]}"), status="unreadable"),
    "rows of text": Attack(
        rows('{"epoch": 1, "train/loss": "<script>"}', '{"epoch": 1, "time": "x"}'), status="unreadable"
    ),
    "rows of NaN": Attack(rows('{"epoch": 1, "train/loss": NaN, "validation/loss": -Infinity}')),
    "an epoch of 200 digits": Attack(rows('{"epoch": 1' + 200 * "0" + "}"), status="unreadable"),
    "a tag that is no text": Attack(rows('{"epoch": 1, "\\ud800": 1.0}'), status="unreadable"),
    "Python in Hydra's YAML": Attack(hydra_tags),
    "events of another run": Attack(lambda run: void_events(run)),
}


def without(run: Path, name: str) -> None:
    """A record of a finished run that lacks something."""
    known = json.loads((run / "result.json").read_text(encoding="utf-8"))
    del known[name]
    instead(run / "result.json", json.dumps(known | {"status": "done"}))


def void_write(run: Path, content: Any) -> None:
    instead(run / "result.json", content)


def void_events(run: Path) -> None:
    instead(run / "events.out.tfevents.1.other", b"\x00" * 100)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few epochs that was interrupted, and its config."""
    place = tmp_path_factory.mktemp("trained")
    (place / "data").mkdir()
    tiny(place / "data")
    knobs = {"data": "idx", "data.dir": str(place / "data"), "data.split_by": "stratified", "epochs": 3}
    knobs |= {"batch_size": 4, "save_every": 0.0}
    engine.fit([make_config(**knobs, until=0.5, **{"model.hidden": [6, 4]})], [place / "run"])
    result(status="interrupted")(place / "run")
    return place / "run", make_config(**knobs, **{"model.hidden": [6, 4]})


@pytest.fixture
def box(trained, tmp_path):
    """The run in a folder of its own, beside a folder that is none of its business."""
    run, _ = trained
    (tmp_path / "sibling").mkdir()
    (tmp_path / "sibling" / "diary.txt").write_text("dear diary", encoding="utf-8")
    (tmp_path / "box").mkdir()
    np.save(tmp_path / "image.npy", np.zeros((3, 2), np.uint8))
    shutil.copytree(run, tmp_path / "box" / "run")
    return tmp_path / "box"


def resumed(settings: Any, run: Path) -> str:
    """What training says of a directory, as train.py tells it: its one line, "" where it goes on to the end."""
    try:
        check_directory(settings, run, digest)
        (outcome,) = engine.fit([settings], [run])
    except (UserError, OSError, MemoryError) as error:
        told = trouble(error)
        assert not told.trace
        return told.text
    return outcome.error or ""


@pytest.mark.few(12)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_run_is_a_line_or_nothing_for_all_who_read_it(name, trained, box, monkeypatch, capsys):
    attack, run = ATTACKS[name], box / "run"
    attack.make(run)
    before = snapshot(box.parent / "sibling")
    with bounded():
        for main in (evaluate.main, figures.main, predict.main):
            files = [box.parent / "image.npy"] if main is predict.main else []
            status, _, error = said(monkeypatch, capsys, main, run, *files)
            assert "Traceback" not in error
            expected = attack.evaluated
            if main is predict.main and attack.predicted is not None:
                expected = attack.predicted
            assert status == (2 if expected else 0)
            assert error.count("\n") == (1 if expected else 0), error
            assert re.search(f"^error: {MATCH}{expected}" if expected else "^$", error), error
        status, _, error = said(monkeypatch, capsys, report.main, box, "--output", box.parent / "page")
        assert (status, error) == (0, ""), error
        (found,) = read([box])
        assert found.status == attack.status, found.error
        assert "\n" not in (found.error or "")
        Leaderboard(box).write()
        told = resumed(trained[1], run)
    assert re.search(attack.resumed, told) if attack.resumed else told == "", told
    assert "\n" not in told
    assert snapshot(box.parent / "sibling") == before
    assert not list(box.parent.rglob("canary"))
