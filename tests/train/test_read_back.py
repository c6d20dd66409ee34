"""What is read back of a finished run is what was recorded, for every tag and every kind of run."""

import json
import shutil

import pytest
from helpers import make_config, rows_of, said, tiny
from training import KINDS

from fmnist import evaluate as evaluation
from fmnist import figures
from fmnist.evaluate import evaluate
from fmnist.record.result import of_run
from fmnist.report import __main__ as report
from fmnist.train import engine

SIZES = {"data.limit": 400, "epochs": 3, "batch_size": 60, "lr": 0.01, "figures": False}
AUGMENTED = {"augment.shift": 2, "augment.flip": 0.5, "augment.cutout": 6, "augment.mixup": 0.4}
READ = {
    **KINDS,
    "switches": {"model.hidden": [20, 12], "dropout": 0.3, "batch_norm": True, "skip": True, "label_smoothing": 0.2},
    "layer norm": {"model.hidden": [20, 12], "norm": "layer", "loss": "brier", "optim": "lion", "lr": 1e-3},
    "full batch": {"model.hidden": [20], "batch_size": None, "loss": "report_rows"},
    "float64": {"model.hidden": [20], "precision": "float64", "optim": "muon"},
    "bfloat16": {"model.hidden": [20], "precision": "bfloat16"},
    "best": {"model.hidden": [20], "select": "best", "lr": 0.1},
    "average": {"model.hidden": [20], "select": "average", "ema": 0.99, "batch_norm": True, "lr": 0.1},
    "augmented": {"model.hidden": [20], **AUGMENTED},
    "stratified": {"model.hidden": [20], "data.split_by": "stratified", "data.split_seed": 3},
    "no validation": {"model.hidden": [20], "data.split": 1.0},
    "noisy classifier": {"model.hidden": [20], "mask": 0.2, "noise": 0.1},
    "noise": {"model": "autoencoder", "model.hidden": [20, 6], "noise": 0.3},
    "mask": {"model": "autoencoder", "model.hidden": [20, 6], "mask": 0.3, "noise": 0.1, "loss": "bce"},
    "one class, noise, best": {**KINDS["one class"], "noise": 0.2, "loss": "mse", "select": "best", "lr": 0.1},
    "noisy vae, average": {**KINDS["vae of one class"], "noise": 0.2, "select": "average", "ema": 0.9,
                           "model.iwae_samples": 2},
    "vae, bfloat16": {**KINDS["vae"], "precision": "bfloat16", "augment.shift": 1},
}  # fmt: skip


def measured(metrics):
    return {tag: value for tag, value in metrics.items() if tag.startswith(("validation/", "test/"))}


def recorded(directory):
    return json.loads((directory / "result.json").read_text(encoding="utf-8"))


@pytest.mark.few(8)
@pytest.mark.parametrize("kind", READ)
def test_what_is_read_back_is_what_was_recorded(kind, tmp_path):
    config = make_config(**{**SIZES, **READ[kind]})
    (outcome,) = engine.fit([config], [tmp_path])
    result = recorded(tmp_path)
    assert result["metrics"] == outcome.metrics
    assert measured(evaluate(tmp_path)) == measured(result["metrics"])
    assert any(tag.startswith("validation/") for tag in result["metrics"]) == (config.data.split < 1)
    if config.select == "last":
        assert rows_of(tmp_path)[-1].items() - {("epoch", 3)} <= result["metrics"].items()


def test_the_validation_metrics_of_a_result_are_those_of_the_weights_that_are_tested(tmp_path):
    knobs = {**SIZES, "epochs": 12, "lr": 0.3, "model.hidden": [20], "select": "best"}
    engine.fit([make_config(**knobs)], [tmp_path])
    result, rows = recorded(tmp_path), rows_of(tmp_path)
    best = rows[result["best"]["epoch"] - 1]
    assert result["best"]["epoch"] < 12  # else there is nothing to tell apart
    for name in ("loss", "accuracy"):
        assert result["metrics"][f"validation/{name}"] == best[f"validation/{name}"]
        assert result["metrics"][f"train/{name}"] == rows[-1][f"train/{name}"]
    last = measured(evaluate(tmp_path, "last"))
    assert {tag: rows[-1][tag] for tag in last if tag.startswith("validation/")} == {
        tag: value for tag, value in last.items() if tag.startswith("validation/")
    }


@pytest.mark.parametrize("kind", ["switches", "average", "one class", "noise", "vae of one class"])
def test_runs_of_a_stack_are_read_back(kind, tmp_path):
    configs = [make_config(**{**SIZES, "precision": "float64", **READ[kind], "seed": seed}) for seed in (0, 1)]
    directories = [tmp_path / str(seed) for seed in (0, 1)]
    engine.fit(configs, directories)
    for directory in directories:
        again = measured(evaluate(directory))
        assert again == pytest.approx(measured(recorded(directory)["metrics"]), rel=1e-9, abs=1e-9)


def test_a_run_of_other_data_is_read_back(tmp_path):
    (tmp_path / "data").mkdir()
    tiny(tmp_path / "data")
    where = {"data": "idx", "data.dir": str(tmp_path / "data")}
    engine.fit([make_config(**where, **{"model.hidden": [5], "epochs": 2, "batch_size": 4})], [tmp_path / "run"])
    assert measured(evaluate(tmp_path / "run")) == measured(recorded(tmp_path / "run")["metrics"])


def test_a_run_whose_data_have_gone_is_read_and_only_what_needs_them_says_so(tmp_path, monkeypatch, capsys):
    (tmp_path / "data").mkdir()
    tiny(tmp_path / "data")
    config = make_config(
        data="idx", epochs=2, batch_size=4, **{"data.dir": str(tmp_path / "data"), "model.hidden": [5]}
    )
    engine.fit([config], [tmp_path / "runs" / "one"])
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    assert of_run(tmp_path / "runs" / "one") == config
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path / "runs")])
    report.main()
    assert (tmp_path / "runs" / "report" / "index.html").exists()
    capsys.readouterr()
    for main in (evaluation.main, figures.main):
        status, _, line = said(monkeypatch, capsys, main, tmp_path / "runs" / "one")
        assert status == 2
        assert line.count("\n") == 1
        assert line.startswith(
            f"error: data.dir must be an existing folder, got {str(tmp_path / 'data')!r}: --data DIR"
        )
