"""Views of images, and what classifiers say over them: evaluate, ensemble, predict and from Python."""

import csv
import io

import numpy as np
import pytest
import torch
from helpers import SMALL, make_config, refuses, said
from training import data_kept, quick_disk, strict  # noqa: F401 - two are fixtures that serve each test

from fmnist import ensemble, evaluate, load, predict
from fmnist.finished.scores import several
from fmnist.train import engine
from fmnist.train.restore import restore
from fmnist.view.calibration import scores
from fmnist.view.views import Views

KNOBS = SMALL | {"epochs": 2, "model.hidden": [8], "precision": "float32"}


def moved(images, down, across, turned):
    """Images (n, height, width) moved down and across, written plainly."""
    found = np.zeros_like(images)
    height, width = images.shape[1:]
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + across < width:
                found[:, row + down, column + across] = images[:, row, column]
    return found[:, :, ::-1] if turned else found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two classifiers of one stack, one that trains on all rows, and an autoencoder."""
    place = tmp_path_factory.mktemp("runs")
    pair = [make_config(**KNOBS, seed=seed) for seed in (0, 1)]
    engine.fit(pair, [place / "pair" / str(seed) for seed in (0, 1)])
    full = [make_config(**KNOBS, seed=seed, **{"data.split": 1.0}) for seed in (0, 1)]
    engine.fit(full, [place / "full" / str(seed) for seed in (0, 1)])
    engine.fit([make_config("autoencoder", **KNOBS | {"model.hidden": [4]})], [place / "code"])
    return place


def over(directory, text="shift=1,flip"):
    """The mean of a run's probabilities over views of all test images, (n, classes), and the labels, by hand."""
    model, test = load(directory), restore(directory).dataset.test
    images = test.images.view(-1, 28, 28).numpy()
    steps, turns = (-1, 0, 1) if "shift" in text else (0,), (False, True) if "flip" in text else (False,)
    found = [model.probabilities(moved(images, down, across, turned))
             for down in steps for across in steps for turned in turns]  # fmt: skip
    return torch.tensor(np.mean(found, 0, dtype=np.float64)), test.labels


@pytest.mark.parametrize("text", ["shift=1,flip", "flip,shift=2", "shift=1", "flip"])
def test_views_are_all_images_that_the_augmentations_can_make_each_once(text):
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4), dtype=np.uint8)
    pixels = torch.tensor(images).flatten(1)
    views = Views(text)
    found = [view(pixels) for view in views.of(5, 4)]
    most = int("1" in text) + 2 * ("2" in text)
    steps, turns = range(-most, most + 1), (False, True) if "flip" in text else (False,)
    expected = [moved(images, down, across, turned) for down in steps for across in steps for turned in turns]
    assert len(found) == len(views) == len(expected)
    assert {view.numpy().tobytes() for view in found} == {np.ascontiguousarray(each).tobytes() for each in expected}
    numbers = [view(pixels / 255) for view in views.of(5, 4)]
    assert all(torch.equal(own / 255, other) for own, other in zip(found, numbers, strict=True))


@pytest.mark.parametrize("text", ["", "shift", "shift=0", "shift=10", "flip,flip", "shift=1,shift=2", "turn", "flip=1"])
def test_what_is_no_view_is_refused(text):
    refuses(lambda: Views(text), "views must be shift=N (1 to 9 pixels), flip or both", repr(text))


def test_evaluate_says_both_without_and_with_views(runs, monkeypatch, capsys):
    directory = runs / "pair" / "0"
    plain = evaluate.evaluate(directory)
    found = evaluate.evaluate(directory, views=Views("shift=1,flip"))
    seen = found.pop("over views")
    assert found == plain
    p, labels = over(directory)
    expected = scores(p.log(), labels)
    assert {name: seen["scores"]["test"][name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert (seen["views"], seen["count"]) == ("shift=1,flip", 18)
    assert seen["scores"]["test"]["log_loss"] != plain["scores"]["test"]["log_loss"]
    status, out, _ = said(monkeypatch, capsys, evaluate.main, directory, "--views", "shift=1,flip")
    assert (status, "over 18 views of each image (shift=1,flip)" in out) == (0, True)
    status, out, _ = said(monkeypatch, capsys, evaluate.main, directory, "--views", "flip", "--json")
    assert (status, strict(out)["over views"]["count"]) == (0, 2)
    status, out, err = said(monkeypatch, capsys, evaluate.main, directory, "--views", "twice")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    status, _, err = said(monkeypatch, capsys, evaluate.main, runs / "code", "--views", "flip")
    assert (status, err) == (2, "error: views are for classifiers, and autoencoder is none\n")


def test_several_runs_have_columns_for_their_views(runs, monkeypatch, capsys):
    directories = [runs / "pair" / "0", runs / "pair" / "1"]
    found = several(directories, views=Views("flip"))
    for run, directory in zip(found["groups"][0]["runs"], directories, strict=True):
        p, labels = over(directory, "flip")
        assert run["metrics"]["accuracy_over_views"] == pytest.approx(scores(p.log(), labels)["accuracy"])
        assert run["metrics"]["log_loss_over_views"] == pytest.approx(scores(p.log(), labels)["log_loss"], rel=1e-5)
    status, out, _ = said(monkeypatch, capsys, evaluate.main, *directories, "--views", "flip")
    assert (status, "accuracy over views" in out) == (0, True)


def test_an_ensemble_has_its_views_and_its_temperature(runs):
    directories = [runs / "pair" / "0", runs / "pair" / "1"]
    found = ensemble.ensemble(directories, views=Views("shift=1,flip"))
    name = "probabilities over 18 views"
    p = (over(directories[0])[0] + over(directories[1])[0]) / 2
    labels = over(directories[0])[1]
    assert found["scores"][name]["test"] == pytest.approx(scores(p.log(), labels), abs=1e-5)
    for each in ("probabilities", name):
        best = found["temperatures"][each]
        before, after = (found["scores"][row] for row in (each, f"{each} at temperature {best:.4g}"))
        assert before["validation"]["accuracy"] == after["validation"]["accuracy"]
        assert before["test"]["accuracy"] == after["test"]["accuracy"]
        assert after["validation"]["log_loss"] < before["validation"]["log_loss"]
    cooled = (p.log() / found["temperatures"][name]).log_softmax(-1)
    expected = -cooled.gather(1, labels[:, None]).mean()
    tempered = found["scores"][f"{name} at temperature {found['temperatures'][name]:.4g}"]
    assert tempered["test"]["log_loss"] == pytest.approx(float(expected), abs=1e-5)


def test_members_without_validation_rows_take_the_temperature_that_is_given(runs, monkeypatch, capsys):
    directories = [runs / "full" / "0", runs / "full" / "1"]
    without = ensemble.ensemble(directories)
    assert without["temperatures"] == {}
    assert "--temperature T gives one" in without["remarks"][-1]
    found = ensemble.ensemble(directories, given=0.5)
    p = sum(load(directory).probabilities(restore(directory).dataset.test.images) for directory in directories) / 2
    labels = restore(directories[0]).dataset.test.labels
    assert found["scores"]["probabilities at temperature 0.5"]["test"] == pytest.approx(
        scores(torch.tensor(p, dtype=torch.float64).log() / 0.5, labels), abs=1e-5
    )
    status, out, _ = said(monkeypatch, capsys, ensemble.main, *directories, "--temperature", 0.5, "--views", "flip")
    assert (status, "probabilities over 2 views at temperature 0.5" in out) == (0, True)
    for wrong in ("0", "-1", "nan", "inf", "hot"):
        status, _, err = said(monkeypatch, capsys, ensemble.main, *directories, f"--temperature={wrong}")
        assert (status, "must be a number above 0" in err) == (2, True)


def test_predict_takes_the_mean_over_views(runs, tmp_path, monkeypatch, capsys):
    directory = runs / "pair" / "0"
    images = restore(directory).dataset.test.images[:50].view(-1, 28, 28).numpy()
    np.save(tmp_path / "images.npy", images)
    expected = over(directory)[0][:50]
    model = load(directory)
    assert model.probabilities(images, "shift=1,flip") == pytest.approx(expected.numpy(), abs=1e-5)
    assert model.probabilities(images / np.float32(255), "flip") == pytest.approx(
        over(directory, "flip")[0][:50].numpy(), abs=1e-5
    )
    status, out, err = said(monkeypatch, capsys, predict.main, directory, tmp_path / "images.npy", "--as-is",
                            "--probabilities", "--views", "shift=1,flip")  # fmt: skip
    assert status == 0, err
    rows = [*csv.DictReader(io.StringIO(out))]
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected.max(-1).values.tolist(), abs=1e-5)
    assert [row["class"] for row in rows] == [model.names[place] for place in expected.argmax(-1)]
    for mistake, line in {
        (runs / "code", tmp_path / "images.npy", "--views", "flip"): "error: --views are for classifiers",
        (directory, tmp_path / "images.npy", "--views", "shift"): "error: views must be shift=N",
        (directory, "--samples", 3, tmp_path, "--views", "flip"): "error: --views are for classes",
    }.items():
        status, _, err = said(monkeypatch, capsys, predict.main, *mistake)
        assert status == 2
        assert err.startswith(line)
