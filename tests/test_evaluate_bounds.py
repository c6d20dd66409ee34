"""fmnist.evaluate --samples and --pixels: the bound of variational autoencoders, on grey and on binarised images."""

import json

import pytest
from helpers import MODELS, SMALL, make_config, refuses, said
from training import data_kept, quick_disk  # noqa: F401 - two are fixtures that serve each test

from fmnist import evaluate as evaluation
from fmnist.evaluate import evaluate
from fmnist.finished.scores import several
from fmnist.train import engine
from fmnist.train.restore import restore

VAE = {**SMALL, "model": "vae", "model.hidden": [20], "model.latent": 3, "data.limit": 300, "epochs": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories of runs on binarised images, two seeds, and of one on grey images."""
    folder = tmp_path_factory.mktemp("runs")
    names = [folder / name for name in ("zero", "one", "grey")]
    configs = [make_config(**VAE, seed=seed, **{"data.binarise": True, "model.iwae_samples": 5}) for seed in (0, 1)]
    engine.fit(configs, names[:2])
    engine.fit([make_config(**VAE)], names[2:])
    return names


def test_the_three_numbers_of_a_run_are_one_command_each(runs, monkeypatch, capsys):
    run, _, grey = runs
    recorded = json.loads((run / "result.json").read_text())["metrics"]
    assert evaluate(run)["test/negative_iwae"] == recorded["test/negative_iwae"]
    status, out, _ = said(monkeypatch, capsys, evaluation.main, run, "--samples", 50, "--json")
    many = json.loads(out)
    assert status == 0
    assert many["test/negative_elbo"] == recorded["test/negative_elbo"]
    assert many["test/negative_iwae"] < recorded["test/negative_iwae"]
    status, out, _ = said(monkeypatch, capsys, evaluation.main, run, "--pixels", "grey", "--samples", 50, "--json")
    other = json.loads(out)
    assert status == 0
    assert other["test images"] == "its own, grey, 300 images"
    assert other["test/negative_iwae"] < other["test/negative_elbo"]
    assert other["test/accuracy_ceiling"] < 0.6 < many["test/accuracy_ceiling"] == 1
    assert (evaluate(grey)["test/accuracy_ceiling"], evaluate(grey, binarise=True)["test/accuracy_ceiling"]) == (
        other["test/accuracy_ceiling"], 1)  # fmt: skip
    assert evaluate(grey, binarise=False)["test/loss"] == evaluate(grey)["test/loss"]


def test_a_part_of_the_images_is_of_the_same_images(runs):
    stack = restore(runs[0])
    whole = stack.dataset.test.images
    part = evaluation.with_test(stack.dataset, None, slice(100, 200))
    assert (part.test.images == whole[100:200]).all()
    assert "validation/negative_iwae" in evaluate(runs[0], samples=7)
    found = evaluate(runs[0], rows=slice(100, 200), samples=7)
    assert "validation/negative_iwae" not in found
    assert found["test images"] == "its own, rows 100:200, 100 images"
    assert found["test/negative_iwae"] < found["test/negative_elbo"]


def test_several_runs_have_mean_and_deviation_of_their_bounds(runs, monkeypatch, capsys):
    status, out, _ = said(monkeypatch, capsys, evaluation.main, *runs[:2], "--samples", 9, "--json")
    assert status == 0
    (group,) = json.loads(out)["groups"]
    alone = [evaluate(run, samples=9)["test/negative_iwae"] for run in runs[:2]]
    found = {run["run"]: run["metrics"]["negative_iwae"] for run in group["runs"]}
    assert [found[str(run)] for run in runs[:2]] == pytest.approx(alone)
    spread = group["configurations"][0]["metrics"]["negative_iwae"]
    assert (spread["n"], spread["mean"]) == (2, pytest.approx(sum(alone) / 2))


def test_a_run_of_another_kind_beside_them_has_none(runs, tmp_path):
    other = {**SMALL, "model": "autoencoder", "model.hidden": [20, 3], "data.limit": 300, "epochs": 2}
    engine.fit([make_config(**other)], [tmp_path / "other"])
    groups = several([*runs[:2], tmp_path / "other"], samples=5)["groups"]
    found = {run["run"]: "negative_iwae" in run["metrics"] for group in groups for run in group["runs"]}
    assert found == {str(runs[0]): True, str(runs[1]): True, str(tmp_path / "other"): False}


def test_what_has_no_bound_is_told_so(runs, tmp_path, monkeypatch, capsys):
    engine.fit([make_config(**MODELS["mlp"], **SMALL)], [tmp_path / "mlp"])
    refuses(lambda: evaluate(tmp_path / "mlp", samples=5), "--samples is for variational autoencoders", "mlp is none")
    for arguments in ((tmp_path / "mlp", tmp_path / "mlp", "--samples", 5), (runs[0], "--samples", 0)):
        status, _, err = said(monkeypatch, capsys, evaluation.main, *arguments)
        assert status == 2
        assert "--samples" in err.splitlines()[-1]
