"""Data are what their bytes are, wherever they lie: a run goes on with the same, and with no others."""

import json
import shutil

import pytest
import torch
from helpers import FILES, MODELS, Crash, assert_same_run, crash_in, make_config, refuses, rows_of, run_cli, tiny, write
from training import strict

from fmnist import UserError
from fmnist.evaluate import evaluate
from fmnist.launch.worker import train_group
from fmnist.record.result import check_directory, read_result
from fmnist.sources import fetch, idx
from fmnist.train import engine
from fmnist.train.restore import restore

KNOBS = {**MODELS["mlp"], "data": "idx", "epochs": 6, "batch_size": 4, "save_every": 0.0, "dropout": 0.3}


@pytest.fixture
def data(tmp_path):
    """The place of a small data set."""
    folder = tmp_path / "data"
    folder.mkdir()
    tiny(folder)
    return folder


def typed(place, directory, **knobs):
    """What train.py does with a command and a directory."""
    config = make_config(**{**KNOBS, "data.dir": str(place), **knobs})
    check_directory(config, directory, fetch.digest)
    return engine.fit([config], [directory])[0]


def stopped(monkeypatch, place, directory, epoch=4, **knobs):
    with monkeypatch.context() as patch:
        crash_in(patch, epoch)
        with pytest.raises(Crash):
            typed(place, directory, **knobs)


def changed(folder):
    """Other bytes behind the same names."""
    images = idx.read_file(folder, FILES[0], None)
    write(folder / FILES[0], (torch.tensor(list(images.content[images.start :])).view(images.shape) + 1) % 256)


def without_digest(directory):
    """The record as older versions wrote it."""
    result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    del result["data"]
    (directory / "result.json").write_text(json.dumps(result), encoding="utf-8")


def test_a_record_names_its_data(data, tmp_path):
    typed(data, tmp_path / "run")
    assert strict((tmp_path / "run" / "result.json").read_text())["data"] == fetch.digest("idx", str(data))


def test_a_run_goes_on_bit_for_bit_after_its_data_were_moved(data, tmp_path, monkeypatch):
    typed(data, tmp_path / "straight")
    stopped(monkeypatch, data, tmp_path / "stopped")
    moved = data.rename(tmp_path / "moved")
    stopped(monkeypatch, moved, tmp_path / "stopped", epoch=4)  # killed again before it has saved anything
    stopped(monkeypatch, moved, tmp_path / "stopped", epoch=5)
    typed(moved, tmp_path / "stopped")
    assert rows_of(tmp_path / "straight") == rows_of(tmp_path / "stopped")
    config = read_result(tmp_path / "stopped")["config"]
    assert config["data"]["dir"] == str(moved)
    shutil.copytree(moved, data)
    typed(data, tmp_path / "again")
    assert_same_run(tmp_path / "straight", tmp_path / "again")


@pytest.mark.long
@pytest.mark.parametrize("sweep", [False, True])
def test_the_command_knows_data_that_were_moved(data, tmp_path, monkeypatch, sweep):
    knobs = {"dropout": None, "model.hidden": [5], "epochs": 4}
    stopped(monkeypatch, data, tmp_path / "runs" / "0", epoch=3, **knobs)
    for name in ("moved", "other"):
        shutil.copytree(data, tmp_path / name)
    changed(tmp_path / "other")
    shutil.rmtree(data)
    place = [f"hydra.sweep.dir={tmp_path}/runs", "hydra.sweep.subdir=0", "hydra.launcher.workers=1"]
    words = ["model=mlp", "model.hidden=[5]", "data=idx", "epochs=4", "batch_size=4", "save_every=0.0"]
    words = ["-m", *words, *place] if sweep else [*words, f"hydra.run.dir={tmp_path}/runs/0"]
    done = run_cli(*words, f"data.dir={tmp_path}/other")
    assert done.returncode == (1 if sweep else 2)
    assert "was trained on other data" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    done = run_cli(*words, f"data.dir={tmp_path}/moved")
    assert done.returncode == 0, done.stderr
    assert read_result(tmp_path / "runs" / "0")["status"] == "done"
    assert [row["epoch"] for row in rows_of(tmp_path / "runs" / "0")] == [1, 2, 3, 4]


def test_a_finished_run_is_known_by_its_data_at_another_place(data, tmp_path, monkeypatch):
    outcome = typed(data, tmp_path / "run")
    moved = data.rename(tmp_path / "moved")
    crash_in(monkeypatch, 1)
    assert typed(moved, tmp_path / "run") == outcome
    changed(moved)
    refuses(lambda: typed(moved, tmp_path / "run"), f"{tmp_path / 'run'} was trained on other data", "bytes differ")


@pytest.mark.parametrize("knobs", [{}, {"seed": 1}])
def test_other_bytes_behind_the_same_names_are_refused(data, tmp_path, monkeypatch, knobs):
    stopped(monkeypatch, data, tmp_path / "run", **knobs)
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    changed(data)
    refuses(lambda: typed(data, tmp_path / "run", **knobs), f"{tmp_path / 'run'} was trained on other data")
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before
    assert len(rows_of(tmp_path / "run")) == 3


def test_a_run_that_has_learnt_nothing_begins_on_the_bytes_that_are_there(data, tmp_path, monkeypatch):
    stopped(monkeypatch, data, tmp_path / "run", epoch=1)
    changed(data)
    typed(data, tmp_path / "run")
    assert read_result(tmp_path / "run")["data"] == fetch.digest("idx", str(data))


def test_in_a_stack_each_run_is_asked_for_its_own_data(data, tmp_path, monkeypatch):
    directories = [tmp_path / str(seed) for seed in range(3)]
    configs = [make_config(**{**KNOBS, "data.dir": str(data), "seed": seed}) for seed in range(3)]
    stopped(monkeypatch, data, directories[0], seed=0)
    changed(data)
    stopped(monkeypatch, data, directories[1], seed=1)
    outcomes = train_group(configs, directories)
    assert "was trained on other data" in outcomes[0].error
    assert [outcome.error for outcome in outcomes[1:]] == [None, None]


def test_another_knob_beside_the_place_is_another_run(data, tmp_path, monkeypatch):
    stopped(monkeypatch, data, tmp_path / "run")
    moved = data.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"another config \(lr=0.001 there, 0.1 here; data.dir=.*data there"):
        typed(moved, tmp_path / "run", lr=0.1)


def test_a_run_without_a_digest_is_known_by_the_place_of_its_data(data, tmp_path, monkeypatch):
    typed(data, tmp_path / "straight")
    stopped(monkeypatch, data, tmp_path / "run")
    without_digest(tmp_path / "run")
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    refuses(lambda: typed(moved, tmp_path / "run"), "another config (data.dir=")
    typed(data, tmp_path / "run")
    assert_same_run(tmp_path / "straight", tmp_path / "run")
    assert read_result(tmp_path / "run")["data"] == fetch.digest("idx", str(data))


@pytest.mark.parametrize("finish", [False, True])
def test_an_older_run_has_classes_that_are_numbered_by_their_labels(data, tmp_path, monkeypatch, finish):
    for name, rows in ((FILES[1], 20), (FILES[3], 8)):
        write(data / name, torch.arange(rows) % 4 + 1)
    with monkeypatch.context() as older:  # as the first versions read them
        older.setattr(fetch, "joined", lambda *given, own=fetch.joined: own(*given).numbered())
        recorded = typed(data, tmp_path / "straight")
        stopped(older, data, tmp_path / "run")
    for directory in ("straight", "run"):
        without_digest(tmp_path / directory)
    if finish:
        typed(data, tmp_path / "run")
        assert rows_of(tmp_path / "straight") == rows_of(tmp_path / "run")
    run = tmp_path / ("run" if finish else "straight")
    assert restore(run).dataset.classes == 5
    assert evaluate(run)["test/loss"] == recorded.metrics["test/loss"]
    typed(data, tmp_path / "new")
    assert restore(tmp_path / "new").dataset.classes == 4


@pytest.mark.parametrize("rewrite", [
    lambda folder: [write(folder / FILES[place], torch.zeros(n, 3, 3).int()) for place, n in ((0, 20), (2, 8))],
    lambda folder: write(folder / FILES[1], torch.arange(20) % 7),
])  # fmt: skip
def test_without_a_digest_data_of_another_shape_are_refused(data, tmp_path, monkeypatch, rewrite):
    stopped(monkeypatch, data, tmp_path / "run")
    without_digest(tmp_path / "run")
    rewrite(data)
    for call in (lambda: typed(data, tmp_path / "run"), lambda: restore(tmp_path / "run")):
        refuses(call, "in the checkpoint", "here: were the data others?")


# --- what is said of data


@pytest.mark.parametrize(("labels", "knobs", "remark"), [
    (sorted(place % 2 for place in range(20)), {"data.split": 0.5}, "training rows lack class 1 and validation"),
    (sorted(place % 2 for place in range(20)), {"data.split": 0.25, "data.split_by": "stratified"}, None),
    (sorted(place % 2 for place in range(20)), {"data.split": 1.0}, None),
    ([0, 1] * 5 + [1] * 10, {"data.split": 0.5}, "validation rows lack class 0: data.split_by=stratified"),
    ([0, 1] * 9 + [1] * 2, {"data.split": 0.9}, None),  # of two rows it is no wonder
    ([0, 1] * 10, {}, None),
])  # fmt: skip
def test_a_file_that_is_sorted_by_class_is_a_warning(data, tmp_path, caplog, labels, knobs, remark):
    write(data / FILES[1], torch.tensor(labels))
    write(data / FILES[3], torch.arange(8) % 2)
    typed(data, tmp_path / "run", epochs=1, **knobs)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == bool(remark)
    if remark:
        assert warnings[0].startswith(remark)


def test_one_class_of_a_sorted_file_needs_another_split(data, tmp_path):
    write(data / FILES[1], torch.arange(20) // 5)
    knobs = {"model": "autoencoder", "model.hidden": [3], "dropout": None, "anomaly.normal": 1}
    refuses(lambda: typed(data, tmp_path / "run", **knobs), "raise data.limit or set data.split_by=stratified")
