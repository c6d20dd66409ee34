"""What is bad in one run takes nothing from the runs beside it, for every model and every final metric."""

import json
import math

import pytest
import torch
from helpers import FILES, SMALL, make_config, rows_of, write
from training import KINDS, assert_valid, strict

from fmnist.evaluate import evaluate, table
from fmnist.record.result import read_result, read_rows
from fmnist.report import __main__ as report
from fmnist.train import engine
from fmnist.view import measure

SIZES = {**SMALL, "epochs": 2, "data.limit": 300, "batch_size": 60, "precision": "float32", "figures": False}
ONCE = {"test/negative_iwae", "test/holes", "test/auroc", "test/auroc_elbo"}


def trained_beside_a_diverged_run(kind, folder):
    """The outcomes of three runs, of which the second diverges; their directories."""
    configs = [make_config(**{**SIZES, **KINDS[kind], "seed": seed, "lr": lr})
               for seed, lr in enumerate((1e-3, 1e38, 1e-2))]  # fmt: skip
    directories = [folder / str(run) for run in range(3)]
    return engine.fit(configs, directories), configs, directories


@pytest.mark.parametrize("kind", KINDS)
def test_beside_a_run_that_diverges_all_others_are_done_with_all_their_metrics(kind, tmp_path):
    outcomes, configs, directories = trained_beside_a_diverged_run(kind, tmp_path)
    assert [read_result(directory)["status"] for directory in directories] == ["done", "failed", "done"]
    assert "loss is" in outcomes[1].error
    for run in (0, 2):
        (alone,) = engine.fit([configs[run]], [tmp_path / f"solo{run}"])
        assert outcomes[run].metrics.keys() == alone.metrics.keys()
        assert all(math.isfinite(value) for value in outcomes[run].metrics.values())
    for directory in directories:
        assert_valid(directory)


def test_the_kinds_of_runs_have_every_metric_that_is_taken_once(tmp_path):
    found = set()
    for kind in KINDS:
        config = make_config(**{**SIZES, **KINDS[kind], "epochs": 1})
        found |= engine.fit([config], [tmp_path / kind])[0].metrics.keys()
    assert found >= ONCE
    assert len(measure.ONCE) == 2  # empty_space, anomaly, beside bound: one that is added wants a kind above


def test_a_run_that_diverged_has_no_pictures(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("fmnist.view.pictures.illustrate", lambda stack, run, *_: drawn.append(run))
    configs = [make_config(**{**SIZES, **KINDS["code"], "figures": True, "lr": lr}) for lr in (1e-3, 1e38)]
    engine.fit(configs, [tmp_path / "good", tmp_path / "bad"])
    assert drawn == [0]


@pytest.mark.parametrize(
    ("kind", "name", "first"), [("code", "holes", "test/holes"), ("one class", "auroc", "validation/auroc")]
)
def test_a_metric_that_fails_for_one_run_fails_for_it_alone(kind, name, first, tmp_path, monkeypatch):
    original, calls = getattr(measure, name), []

    def fails_for_the_second(*given):
        calls.append(given)
        if len(calls) == 2:
            raise ValueError("degenerate")
        return original(*given)

    fails_for_the_second.__name__ = name
    monkeypatch.setattr(measure, name, fails_for_the_second)
    configs = [make_config(**{**SIZES, **KINDS[kind], "seed": seed}) for seed in range(3)]
    directories = [tmp_path / str(run) for run in range(3)]
    engine.fit(configs, directories)
    results = [strict((directory / "result.json").read_text(encoding="utf-8")) for directory in directories]
    assert [result["status"] for result in results] == ["done"] * 3
    values = [result["metrics"][first] for result in results]
    assert values[1] is None
    assert None not in (values[0], values[2])


def idx(folder, height, width, classes, rows=10, test=4):
    """An IDX data set of images of random grey levels."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for name, n in zip(FILES, (rows, rows, test, test), strict=True):
        pixels = torch.randint(256, (n, height, width), generator=generator)
        write(folder / name, pixels if "images" in name else torch.arange(n) % classes)
    return {"data": "idx", "data.dir": str(folder)}


ONE_CLASS = {
    "classifier": {"model.hidden": [3], "watch": "surface"},
    "autoencoder": {"model": "autoencoder", "model.hidden": [3], "anomaly.normal": 0},
    "vae": {"model": "vae", "model.hidden": [3], "model.latent": 2, "anomaly.normal": 0},
}


@pytest.mark.parametrize("kind", ONE_CLASS)
def test_a_metric_that_is_not_defined_is_null_and_the_run_can_be_read(kind, tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level("INFO")
    where = idx(tmp_path / "data", 3, 2, classes=1, rows=20)
    knobs = {**ONE_CLASS[kind], **where, "epochs": 2, "batch_size": 8, "figures": False}
    directories = [tmp_path / "runs" / str(seed) for seed in (0, 1)]
    outcomes = engine.fit([make_config(**knobs, seed=seed) for seed in (0, 1)], directories)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert " nan" not in caplog.text
    assert "undefined" in caplog.text
    undefined = {"test/auroc"} if kind != "classifier" else {"surface/gradient_change"}
    for directory in directories:
        assert_valid(directory)
        result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
        assert all(result["metrics"][tag] is None for tag in undefined)
        if kind == "classifier":
            rows = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            assert [json.loads(row)["surface/gradient_change"] for row in rows] == [None, None]
        assert not undefined & read_result(directory)["metrics"].keys()
        assert all(undefined.isdisjoint(row) for row in read_rows(directory))
        metrics = evaluate(directory)
        # a GPU's products depend on how many runs are in the stack
        assert metrics["test/loss"] == pytest.approx(read_result(directory)["metrics"]["test/loss"])
        if kind != "classifier":
            assert "auroc undefined" in table(metrics)
            assert "probe accuracy undefined" in table(metrics)
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path / "runs")])
    report.main()
    assert (tmp_path / "runs" / "report" / "index.html").exists()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(("model", "height", "width"), [
    ("autoencoder", 2, 1), ("autoencoder", 1, 1), ("vae", 2, 1), ("vae", 1, 5),
])  # fmt: skip
def test_pictures_of_images_of_any_shape_are_drawn(model, height, width, tmp_path, caplog):
    where = idx(tmp_path / "data", height, width, classes=2)
    knobs = {"model": model, "model.hidden": [3], **where, "epochs": 1, "figures": True}
    (outcome,) = engine.fit([make_config(**knobs)], [tmp_path])
    assert outcome.error is None
    assert read_result(tmp_path)["status"] == "done"
    assert not [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert (tmp_path / "figures" / "reconstructions.png").exists()
    (sprite,) = tmp_path.glob("**/sprite.png")  # of the projector
    assert sprite.stat().st_size


@pytest.mark.parametrize("knobs", [
    {"data.limit": 3, "batch_size": 1},  # fewer than two test images of each class
    {"data.limit": 5, "batch_size": 2, "anomaly.normal": 0, "model.hidden": [8, 2]},
    {"data.limit": 2, "batch_size": 1, "data.split": 0.5, "model.hidden": [8, 2]},
], ids=str)  # fmt: skip
def test_pictures_of_few_test_images_take_nothing_from_a_run(knobs, tmp_path):
    config = make_config(**{"model": "autoencoder", "model.hidden": [8], "epochs": 1, **knobs})
    (outcome,) = engine.fit([config], [tmp_path])
    assert outcome.error is None
    assert_valid(tmp_path)
    assert rows_of(tmp_path)


@pytest.mark.few(1)
@pytest.mark.parametrize(("where", "name"), [
    ("fmnist.view.pictures.Artist.interpolation", "figures/interpolation.png"),
    ("fmnist.view.pictures.Artist.__init__", "figures"),
    ("fmnist.mirror.mirror.Mirror.embedding", "TensorBoard's projector"),
])  # fmt: skip
def test_a_picture_that_cannot_be_drawn_is_a_warning_that_names_it(where, name, tmp_path, monkeypatch, caplog):
    def broken(*_):
        raise IndexError("there is no such image")

    monkeypatch.setattr(where, broken)
    config = make_config(**{**SIZES, **KINDS["code"], "figures": True})
    (outcome,) = engine.fit([config], [tmp_path])
    assert outcome.error is None
    assert read_result(tmp_path)["status"] == "done"
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.getMessage() == f"{name} could not be made: IndexError: there is no such image"
    others = {"reconstructions", "interpolation", "map", "plane"} if name != "figures" else set()
    assert {file.stem for file in tmp_path.glob("figures/*")} == others - {name.removeprefix("figures/")[:-4]}
