"""Files that are written whole or not at all: what fails names the file, and what is written is as the user's umask."""

import errno
import os
import stat
import subprocess
import sys

import pytest
from helpers import full_disk, make_config

from fmnist import ROOT
from fmnist.program.files import locked, naming, replacing
from fmnist.record import checkpoint
from fmnist.record.record import Record


def replaced(folder):
    with replacing(folder / "text") as file:
        file.write("x" * 9000)


def rows(folder):
    record = Record(make_config(), folder)
    for epoch in range(1, 100):
        record.add(epoch, {"train/loss": 0.5})


WRITERS = {
    "text": replaced, "metrics.jsonl": rows,
    "last.safetensors": lambda folder: checkpoint.save(folder / "last.safetensors", {"weights": [0.5] * 9000}),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_what_cannot_be_written_names_the_file_and_leaves_nothing(name, tmp_path):
    with full_disk(2500), pytest.raises(OSError, match="File too large") as caught:
        WRITERS[name](tmp_path)
    assert caught.value.filename == str(tmp_path / name)
    whole = ("text", "last.safetensors")
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part" or path.name in whole]


@pytest.mark.parametrize("failing", ["builtins.open", "os.replace"])
def test_a_read_only_file_system_names_the_file_that_is_meant(failing, tmp_path, monkeypatch):
    def refusing(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(failing, refusing)
    monkeypatch.setattr(os, "unlink", refusing)  # which fails there whether there is a file or not
    with pytest.raises(OSError, match="Read-only") as caught:
        replaced(tmp_path)
    assert caught.value.filename == str(tmp_path / "text")


def test_an_error_that_names_a_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, naming(tmp_path):
        open(tmp_path / "other", "rb").close()
    assert caught.value.filename == str(tmp_path / "other")
    with pytest.raises(OSError, match=r"^no number$"), naming(tmp_path):
        raise OSError("no number")


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_files_are_as_the_umask_says(mask, tmp_path):
    before = os.umask(mask)
    try:
        replaced(tmp_path)
        with locked(tmp_path / "lock"):
            pass
    finally:
        os.umask(before)
    for name in ("text", "lock"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~mask


def test_a_folder_that_cannot_be_read_fails_no_write(tmp_path, monkeypatch):
    original = os.open

    def refused(path, *rest, **more):
        if os.fspath(path) == os.fspath(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path, *rest, **more)

    monkeypatch.setattr(os, "open", refused)
    replaced(tmp_path)
    assert (tmp_path / "text").stat().st_size == 9000


def test_a_file_system_without_locks_is_one_warning_whatever_is_locked(tmp_path, monkeypatch, caplog):
    def none(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", none)
    monkeypatch.setattr("fmnist.program.files._told", set())
    for name in ("sweep/run-0", "sweep/run-1", "sweep"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        with locked(tmp_path / name / "train.log"):
            pass
    (warning,) = caplog.messages
    assert warning.startswith(f"{tmp_path / 'sweep' / 'run-0'}: its file system knows no locks")


WRITE = """
import sys
from pathlib import Path
sys.prefix = ""  # the environment may lie where this locale cannot go
from fmnist.program.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write("0.9 \\u00b1 0.1 \\u2191")
"""


def test_text_is_utf_8_whatever_the_locale_is(tmp_path):
    ascii_alone = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", WRITE, tmp_path / "text"], cwd=ROOT, env=os.environ | ascii_alone, check=True)
    assert (tmp_path / "text").read_bytes() == "0.9 ± 0.1 ↑".encode()
