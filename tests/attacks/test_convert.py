"""Hostile files in the place of older checkpoints: `fmnist.convert` says one line that names the file, leaves it as it
is, and runs no code of theirs."""

import io
import pickle
import zipfile

import pytest
import torch
from attacks.hostile import Canary, bounded, endless, instead, pipe, snapshot, sparse
from helpers import said

from fmnist import convert


def archive(content, compression=zipfile.ZIP_STORED, name="archive/data.pkl"):
    """A checkpoint as torch writes them, with this for its pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression, compresslevel=1) as parts:
        parts.writestr(name, content)
        parts.writestr(name.replace("data.pkl", "version"), "3")
    return buffer.getvalue()


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def call(function, *arguments):
    """A pickle that calls a function of a module."""
    return f"c{function.replace('.', chr(10), 1)}\n(".encode() + b"".join(arguments) + b"tR."


ATTACKS = {
    "a pickle": lambda file: instead(file, pickle.dumps({"weights": Canary(file.parent / "canary")})),
    "a pickle in an archive": lambda file: instead(
        file, archive(pickle.dumps({"weights": Canary(file.parent / "canary")}, protocol=2))
    ),
    "eval in an archive": lambda file: instead(
        file, archive(call("builtins.eval", f"Vopen({str(file.parent / 'canary')!r}, 'w')\n".encode()))
    ),
    "getattr in an archive": lambda file: instead(file, archive(call("builtins.getattr", b"cos\nsystem\n", b"Vx\n"))),
    "a module whole": lambda file: instead(file, saved({"weights": torch.nn.Linear(2, 2)})),
    "a storage that is not there": lambda file: instead(
        file,
        archive(
            b"\x80\x02}X\x07\x00\x00\x00weights(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
            b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\x7ftQs."
        ),
    ),
    "a zip bomb": lambda file: instead(file, archive(bytes(1 << 28), zipfile.ZIP_DEFLATED)),
    "a name that leads elsewhere": lambda file: instead(file, archive(b"N.", name="../../sibling/data.pkl")),
    "no weights": lambda file: instead(file, saved({"epoch": 3})),
    "weights of another kind": lambda file: instead(file, saved({"weights": {1: torch.ones(2)}})),
    "a pipe": pipe,
    "a device without end": endless,
    "a terabyte": lambda file: sparse(file, size=1 << 40),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_no_checkpoint_is_one_line_and_stays_as_it_is(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "sibling").mkdir()
    (run := tmp_path / "run").mkdir()
    instead(run / "last.pt", b"")
    ATTACKS[name](run / "last.pt")
    before = {path.name: path.lstat() for path in run.iterdir()}
    with bounded():
        status, printed, error = said(monkeypatch, capsys, convert.main, run)
    assert (status, printed) == (2, convert.TRUST + "\n")
    assert (error.count("\n"), "last.pt" in error, "Traceback" in error) == (1, True, False), error
    assert {path.name: path.lstat().st_mode for path in run.iterdir()} == {
        name: status.st_mode for name, status in before.items()
    }
    assert snapshot(tmp_path / "sibling") == {}
    assert not list(tmp_path.rglob("canary"))
