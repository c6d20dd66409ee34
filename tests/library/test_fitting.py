"""`fit`: the run that train.py trains, from a call; images of one's own; interruptions; what it leaves alone."""

import io
import logging
import os
import signal
import sys
import warnings

import numpy as np
import pytest
from helpers import make_config, refuses, rows_of
from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test

from fmnist import fit, load
from fmnist.launch.locks import LOCK, alone
from fmnist.library.fitting import as_overrides, composed
from fmnist.record.result import read_result
from fmnist.train import engine
from fmnist.train.stack import Stack

SMALL = {"data__limit": 300, "epochs": 3, "batch_size": 50, "model__hidden": [20, 12], "precision": "float64"}
ASKED = make_config(**{name.replace("__", "."): value for name, value in SMALL.items()}, dropout=0.25)


def test_it_trains_the_run_that_train_py_trains(tmp_path):
    engine.fit([ASKED], [tmp_path / "plain"])
    model = fit("model=mlp", "+dropout=0.25", directory=str(tmp_path / "called"), **SMALL)
    assert rows_of(tmp_path / "called") == rows_of(tmp_path / "plain")
    plain, called = (read_result(tmp_path / name) for name in ("plain", "called"))
    assert called["config_hash"] == plain["config_hash"]
    assert model.metrics == plain["metrics"]
    assert [row["epoch"] for row in model.history] == [1, 2, 3]
    assert (tmp_path / "called" / "train.log").read_text(encoding="utf-8").count("epoch ") == 3
    again = fit("model=mlp", dropout=0.25, directory=tmp_path / "called", **SMALL)  # done already
    assert again.history == model.history
    other = "dropout=0.25 there, 0.5 here"
    refuses(lambda: fit("model=mlp", dropout=0.5, directory=tmp_path / "called", **SMALL), other)


def test_a_run_without_a_directory_gets_a_new_one_below_outputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = [composed(["model=mlp1"])[1] for _ in range(2)]
    assert places[0] != places[1]
    assert all(place.parts[0] == "outputs" and place.name.endswith("_mlp1") for place in places)
    assert composed(["hydra.run.dir=outputs/mine"])[1].parts == ("outputs", "mine")


def test_keywords_are_overrides():
    knobs = {
        "model": "mlp", "model__hidden": [20, 10], "augment": {"shift": 2}, "lr": np.float64(0.003), "dropout": None,
        "batch_norm": True, "data__dir": "/a b/it's", "seed": np.int64(3), "optim": "sgd",
    }  # fmt: skip
    plain, _ = composed(as_overrides(knobs))
    assert plain["model"]["hidden"] == [20, 10]
    assert plain["augment"]["shift"] == 2
    assert (plain["lr"], plain["dropout"], plain["batch_norm"], plain["seed"]) == (0.003, None, True, 3)
    assert plain["data"]["dir"] == "/a b/it's"
    assert plain["optim"]["name"] == "sgd"


@pytest.mark.parametrize(("overrides", "knobs", "words"), [
    ((), {"droput": 0.5}, ["unknown knob droput: did you mean dropout?"]),
    ((), {"dropout": 1.5}, ["dropout must be in [0, 1), got 1.5"]),
    (("model=mpl",), {}, ["model must be one of", "got mpl"]),
    (("lr=1e-3,3e-3",), {}, ["fit trains one run"]),
    (("study=lr",), {}, ["fit trains one run"]),
    (("-m",), {}, ["fit trains one run"]),
    ((), {"dry_run": True}, ["fit trains one run: dry_run=true is for"]),
    (("lr=${nothing}",), {}, ["nothing"]),
    (("lr=[",), {}, ["lr=[ is no override: "]),
    ((), {"images": np.zeros((4, 3, 2), np.uint8)}, ["images and labels must be given together"]),
    ((), {"images": np.zeros((4, 6, 5), np.uint8), "labels": [1, 2]}, ["there are 4 images and 2 labels"]),
    ((), {"images": np.zeros((4, 5), np.uint8), "labels": [0] * 4}, ["images must have the shape", "(4, 5)"]),
    ((), {"images": np.zeros((2, 6, 5), np.uint8), "labels": [0, 1]}, ["test_images must be given"]),
])  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing_behind(overrides, knobs, words, tmp_path):
    refuses(lambda: fit(*overrides, directory=tmp_path / "run", **knobs), *words)
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_says_why(tmp_path):
    refuses(lambda: fit("model=mlp", directory=tmp_path, lr=1e300, **SMALL), str(tmp_path), "try a smaller lr")
    assert read_result(tmp_path)["status"] == "failed"


def made_up(n=60):
    """Images of 5x4 pixels in three classes that are easily told apart."""
    labels = np.arange(n) % 3
    noise = np.random.default_rng(0).integers(0, 60, (n, 5, 4))
    return (noise + 90 * labels[:, None, None]).astype(np.uint8), labels


def test_images_of_ones_own_are_kept_with_the_run(tmp_path):
    images, labels = made_up()
    names = np.array(["low", "mid", "top"])[labels]
    asked = {"data__split_by": "stratified", "epochs": 20, "batch_size": 10, "lr": 0.01, "directory": tmp_path / "run"}
    model = fit(model="mlp1", images=images, labels=names, **asked)
    assert model.names == ("low", "mid", "top")
    assert (model.predict(images) == labels).mean() > 0.9
    assert np.array_equal(load(tmp_path / "run").predict(images), model.predict(images))
    sizes = read_result(tmp_path / "run")["images"]
    assert (sizes["height"], sizes["width"]) == (5, 4)
    again = fit(model="mlp1", images=images / 255, labels=names, **asked)
    assert again.history == model.history
    refuses(lambda: fit(model="mlp1", images=255 - images, labels=names, **asked), "holds a run on other images")


def test_test_images_may_be_given(tmp_path):
    images, labels = made_up()
    given = {"images": images, "labels": labels, "test_images": images[:7], "test_labels": labels[:7]}
    model = fit(model="linear", epochs=1, directory=tmp_path, **given)
    assert "60 images" not in repr(model)
    assert (tmp_path / "data" / "t10k-labels-idx1-ubyte").stat().st_size == 8 + 7


def test_ctrl_c_is_a_keyboard_interrupt_and_the_same_call_goes_on(tmp_path, monkeypatch):
    engine.fit([ASKED], [tmp_path / "whole"])
    train_epoch = Stack.train_epoch

    def interrupted(self, epoch):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return train_epoch(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"all is saved: fit\(\.\.\., directory='.*'\) goes on"):
            fit("model=mlp", dropout=0.25, directory=tmp_path / "run", **SMALL)
    assert read_result(tmp_path / "run")["status"] == "interrupted"
    fit("model=mlp", dropout=0.25, directory=tmp_path / "run", **SMALL)
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")


def test_signals_logging_and_hydra_are_left_as_they_were(tmp_path, capfd):
    from hydra import initialize
    from hydra.core.global_hydra import GlobalHydra

    with initialize(None, version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        root = logging.getLogger()
        logs = root.level, root.handlers[:], [*logging.getLogger("train").handlers]
        fit("model=mlp", directory=tmp_path, **SMALL)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
        assert (root.level, root.handlers, logging.getLogger("train").handlers) == logs
        assert GlobalHydra.instance().hydra is hydra
    assert capfd.readouterr() == ("", "")  # nobody would see a bar move


def test_a_second_run_in_the_same_directory_is_refused(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    with alone(tmp_path / "run"):
        monkeypatch.setattr("fmnist.launch.locks._ours", set())  # as another process sees it
        refuses(lambda: fit("model=mlp", directory=tmp_path / "run", **SMALL), "another command is training in")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]


@pytest.mark.parametrize("progress", [True, False])
def test_a_notebook_without_widgets_has_a_bar_of_text_and_no_warning(progress, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setattr("sys.stderr", stream := io.StringIO())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit("model=mlp", directory=tmp_path, progress=progress, **SMALL)
    assert ("3/3" in stream.getvalue()) == progress


def test_a_warning_of_the_run_is_one_of_python(tmp_path):
    images, labels = np.zeros((40, 3, 2), np.uint8), np.arange(40) // 4
    with pytest.warns(UserWarning, match="rows lack class"):
        fit(model="linear", epochs=1, data__split_by="tail", directory=tmp_path, images=images, labels=labels)
