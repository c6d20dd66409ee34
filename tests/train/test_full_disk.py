"""A disk that becomes full at any moment: the file is named, the record says how the run ended, and it can go on."""

import errno
import json

import pytest
from helpers import SMALL, assert_same_run, full_disk, make_config

from fmnist.launch import runs
from fmnist.launch.runs import corrected
from fmnist.launch.worker import train_group
from fmnist.record import checkpoint, result
from fmnist.train import engine

KNOBS = {**SMALL, "data.limit": 60, "batch_size": 16, "epochs": 6, "model.hidden": [5], "precision": "float32"}


def fit(directory):
    return engine.fit([make_config(**KNOBS)], [directory])


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    directory = tmp_path_factory.mktemp("straight")
    fit(directory)
    return directory


@pytest.mark.parametrize("size", [1, 300, 1200, 2500, 3000, 6000, 20_000, 60_000])
def test_a_run_that_finds_no_room_is_recorded_and_goes_on_when_there_is_some(size, straight, tmp_path):
    with full_disk(size), pytest.raises(OSError, match="File too large") as caught:
        fit(tmp_path)
    assert caught.value.filename.startswith(str(tmp_path))
    if (tmp_path / "result.json").exists():
        assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["status"] == "failed"
    if (tmp_path / "last.safetensors").exists():
        checkpoint.load(tmp_path / "last.safetensors")
    assert not list(tmp_path.glob("*.part"))
    fit(tmp_path)
    assert_same_run(straight, tmp_path)


@pytest.fixture
def no_room(monkeypatch):
    """Nothing can be written any more in the third epoch, unless TensorBoard's mirror is gone: on a disk that is full
    to the last byte not even the end of the run has room."""
    original, add, full = result.replacing, engine.Run.end_epoch, []

    def replacing(path, *rest):
        if full and list(path.parent.glob("*/events*")):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return original(path, *rest)

    def end_epoch(self, epoch, *rest):
        if epoch == 3:
            full.append(epoch)
            raise OSError(errno.ENOSPC, "No space left on device", str(self.directory / "metrics.jsonl"))
        add(self, epoch, *rest)

    monkeypatch.setattr(result, "replacing", replacing)
    monkeypatch.setattr(engine.Run, "end_epoch", end_epoch)


def assert_closed(directory):
    record = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    assert record["status"] == "failed"
    assert "No space left on device" in record["error"]
    assert str(directory) in record["error"]


def test_on_a_full_disk_the_mirror_makes_room_for_the_end_of_a_run(no_room, straight, tmp_path, monkeypatch):
    with pytest.raises(OSError, match="No space left"), corrected(tmp_path):
        fit(tmp_path)
    assert_closed(tmp_path)
    monkeypatch.undo()
    fit(tmp_path)
    assert_same_run(straight, tmp_path)
    assert list(tmp_path.glob("*/events*"))


def test_on_a_full_disk_the_mirrors_make_room_for_the_ends_of_a_stack(no_room, tmp_path):
    directories = [tmp_path / "0", tmp_path / "1"]
    outcomes = train_group([make_config(**KNOBS, seed=seed) for seed in (0, 1)], directories)
    for outcome, directory in zip(outcomes, directories, strict=True):
        assert outcome.error.startswith(f"{directory}/")
        assert outcome.error.endswith(": No space left on device")
        assert_closed(directory)


@pytest.mark.parametrize("status", ["running", "done"])
def test_a_record_that_is_right_is_left_alone(status, tmp_path):
    fit(tmp_path)
    record = result.read_result(tmp_path)
    result.write_result(tmp_path, record | {"status": status})
    with pytest.raises(KeyError), corrected(tmp_path):  # no trouble of a disk: the run has closed it itself
        raise KeyError
    assert result.read_result(tmp_path)["status"] == status
    runs.correct(tmp_path, "failed", "why")
    assert result.read_result(tmp_path)["status"] == {"running": "failed"}.get(status, status)
