"""Files of a run that are damaged, not ours, or cannot be read: one line says which; no good file is called damaged."""

import errno
import io
import json
import pickle
import shutil
import zipfile

import pytest
import safetensors.torch
import torch
from helpers import make_config, refuses
from hypothesis import given
from hypothesis import strategies as st

from fmnist import UserError
from fmnist.program import packing
from fmnist.record import checkpoint
from fmnist.record.record import Record
from fmnist.record.result import read_result, read_rows
from fmnist.train import engine
from fmnist.train.restore import restore
from fmnist.train.run import last_state

TINY = {"data.limit": 50, "epochs": 4, "model.hidden": [3], "precision": "float32"}
STATE = {"epoch": 3, "weights": {"a": torch.arange(600.0), "b": torch.ones(3, 4)}, "best": [1, 0.5]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint; another file there may be damaged."""
    file = tmp_path_factory.mktemp("checkpoint") / "whole.safetensors"
    checkpoint.save(file, STATE)
    return file


@given(place=st.integers(0, 1 << 20), length=st.integers(1, 300), value=st.integers(0, 255), cut=st.booleans())
def test_a_checkpoint_is_read_as_it_was_written_or_not_at_all(whole, place, length, value, cut):
    content, file = whole.read_bytes(), whole.with_name("last.safetensors")
    place %= len(content)
    damaged = content[:place] if cut else content[:place] + bytes([value]) * length + content[place + length :]
    file.write_bytes(damaged)
    try:
        state = checkpoint.load(file)
    except UserError:
        refuses(lambda: checkpoint.load(file), f"{file} is damaged or no checkpoint: remove it")
    else:  # nothing was changed
        assert damaged == content
        torch.testing.assert_close(state, STATE, rtol=0, atol=0)


def packed(save, thing):
    buffer = io.BytesIO()
    save(thing, buffer)
    return buffer.getvalue()


def an_archive(_, buffer):
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("letter.txt", "Dear reader")


FOREIGN = {
    "empty": b"", "text": b"epoch 3\n", "a list": packed(torch.save, [1, 2]),
    "a tensor": packed(torch.save, torch.ones(3)), "another dict": packed(torch.save, {"model": torch.ones(3)}),
    "a module": packed(torch.save, torch.nn.Linear(2, 2)), "a pickle": pickle.dumps(STATE["best"]),
    "another archive": packed(an_archive, None), "a checkpoint of an older version": packed(torch.save, STATE),
    "another's safetensors": safetensors.torch.save(STATE["weights"]), "another state": packing.packed({"model": 1}),
    "a list of states": packing.packed([STATE]),
    "an old format": packed(lambda state, f: torch.save(state, f, _use_new_zipfile_serialization=False), {"a": 1}),
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_checkpoint_is_one_line(what, tmp_path):
    (tmp_path / "last.safetensors").write_bytes(FOREIGN[what])
    refuses(lambda: last_state(make_config(), tmp_path), "last.safetensors is damaged or no checkpoint")


def test_a_checkpoint_of_nobody_is_of_another_config(tmp_path):
    checkpoint.save(tmp_path / "last.safetensors", STATE)
    refuses(lambda: last_state(make_config(), tmp_path), "last.safetensors is of another config")


def fails(error):
    def call(*_, **__):
        raise error

    return call


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ENOMEM])
def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(number, tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "last.safetensors", STATE)
    monkeypatch.setattr("fmnist.program.reading.open", fails(OSError(number, "some reason")), raising=False)
    with pytest.raises(OSError, match="some reason") as caught:
        checkpoint.load(tmp_path / "last.safetensors")
    assert caught.value.filename == str(tmp_path / "last.safetensors")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you")])
def test_a_checkpoint_for_which_there_is_no_room_is_not_called_damaged(error, tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "last.safetensors", STATE)
    monkeypatch.setattr("safetensors.torch.load", fails(error))
    with pytest.raises(type(error)):
        checkpoint.load(tmp_path / "last.safetensors")


GOOD = {"status": "done", "epoch": 3, "config": {}, "config_hash": "x", "metrics": {}}


@pytest.mark.parametrize("content", [
    b"", b"[]", b"7", b"\xff", b"[" * 100_000, b'{"status": "do', *(
        json.dumps(GOOD | change).encode() for change in (
            {"epoch": None}, {"epoch": [3]}, {"config": ["lr"]}, {"config": "lr=1"}, {"status": 1}, {"config_hash": 3})
    ), *(json.dumps({key: value for key, value in GOOD.items() if key != left_out}).encode()
         for left_out in ("status", "epoch", "config", "config_hash")),
])  # fmt: skip
def test_a_result_that_is_none_is_damaged(content, tmp_path):
    (tmp_path / "result.json").write_bytes(content)
    refuses(lambda: read_result(tmp_path), "result.json is damaged (", "): remove it to start this run anew")


def test_a_result_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    (tmp_path / "result.json").write_text(json.dumps(GOOD), encoding="utf-8")
    assert read_result(tmp_path) == GOOD
    refused = fails(PermissionError(errno.EACCES, "Permission denied"))
    monkeypatch.setattr("fmnist.program.reading.open", refused, raising=False)
    refuses(lambda: read_result(tmp_path), "result.json cannot be read: Permission denied")
    (tmp_path / "folder" / "result.json").mkdir(parents=True)
    monkeypatch.undo()
    refuses(lambda: read_result(tmp_path / "folder"), "result.json cannot be read: Is a directory")


LINES = [b"\xff\xfe", b"{", b"[1, 2]", b"null", b'{"train/loss": 1.0}', b'{"epoch": "2"}', b"[" * 100_000, b""]


@pytest.mark.parametrize("line", LINES)
def test_a_damaged_row_costs_that_row_alone_and_a_run_that_goes_on_says_so_once(line, tmp_path, caplog):
    rows = [b'{"epoch": %d, "time": 5.0, "train/loss": 0.5}' % epoch for epoch in (1, 2, 3, 4)]
    rows[1] = line
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(rows) + b"\n")
    assert [row and row["epoch"] for row in read_rows(tmp_path)] == [1, None, 3, 4]
    record = Record(make_config(epochs=9), tmp_path, epoch=3)
    (warning,) = [entry.getMessage() for entry in caplog.records]
    assert warning == f"{tmp_path}/metrics.jsonl: rows are missing or damaged, the first of epoch 2"
    record.add(4, {"train/loss": 0.25})
    assert [(row["epoch"], row["train/loss"]) for row in read_rows(tmp_path)] == [(1, 0.5), (3, 0.5), (4, 0.25)]
    caplog.clear()


@pytest.mark.parametrize("last", [b'{"epoch": 3', b"\xff", b""])
def test_a_last_line_that_a_crash_cut_short_is_left_out(last, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n{"epoch": 2}\n' + last)
    assert read_rows(tmp_path) == [{"epoch": 1}, {"epoch": 2}]


STRANGE = {
    "no weights of a layer": lambda state: state["weights"].popitem(),
    "weights that are numbers": lambda state: state["weights"].update(dict.fromkeys(state["weights"], 1.0)),
    "weights that are a list": lambda state: state.update(weights=[1]), "no epoch": lambda state: state.pop("epoch"),
    "an epoch in words": lambda state: state.update(epoch="three"),
    "a best that is true": lambda state: state.update(best=True),
    "a best without weights": lambda state: state["best"].pop("weights"),
    "no optimizer": lambda state: state.pop("optimizer"),
    "moments of another shape": lambda state: state["optimizer"].update(exp_avg={"0.weight": torch.ones(7)}),
    "kernels that are a list": lambda state: state.update(kernels=[1]),
}  # fmt: skip


@pytest.fixture(scope="module")
def paused(tmp_path_factory):
    """A run that is to go on."""
    directory = tmp_path_factory.mktemp("paused")
    engine.fit([make_config(**TINY, until=0.5)], [directory])
    return directory


@pytest.mark.parametrize("what", STRANGE)
def test_a_checkpoint_of_another_make_is_one_line(what, paused, tmp_path):
    directory = shutil.copytree(paused, tmp_path / "run")
    state = checkpoint.load(directory / "last.safetensors")
    STRANGE[what](state)
    checkpoint.save(directory / "last.safetensors", state)
    refuses(lambda: engine.fit([make_config(**TINY)], [directory]), f"{directory}/last.safetensors is damaged or no ch")
    if what.startswith("weights"):
        refuses(lambda: restore(directory), f"{directory}/last.safetensors is damaged or no checkpoint")
