"""fmnist.sources.fetch: the cache, the sources in turn, a folder of one's own, reading ahead, and the command."""

import errno
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import FILES, refuses, said, tiny, values, write

from fmnist import ROOT
from fmnist.data.__main__ import main
from fmnist.sources import fetch
from fmnist.sources.fetch import fashion, idx

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES


def cached(small: Path) -> Path:
    return small.parent / "data" / "fashion-mnist"


def test_fetched_once_then_read_from_the_cache(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fashion(None)
    assert sorted(path.name for path in cached(small).iterdir()) == sorted(FILES)  # raw, and nothing else
    monkeypatch.setattr(fetch, "SOURCES", {})
    assert fashion(None)[TRAIN_IMAGES].content == first[TRAIN_IMAGES].content


def test_corrupt_cached_file_is_set_aside_and_fetched_again(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = fashion(None)
    path = cached(small) / TEST_IMAGES
    good = path.read_bytes()
    bad = good[:-1] + bytes([good[-1] ^ 1])
    path.write_bytes(bad)
    untouched = (cached(small) / TRAIN_IMAGES).stat().st_mtime_ns
    with caplog.at_level(logging.WARNING):
        assert fashion(None)[TEST_IMAGES].content == first[TEST_IMAGES].content
    assert [TEST_IMAGES in record.message for record in caplog.records] == [True]
    assert path.read_bytes() == good
    assert path.with_name(f"{TEST_IMAGES}.bad").read_bytes() == bad
    assert (cached(small) / TRAIN_IMAGES).stat().st_mtime_ns == untouched


def test_a_cached_file_that_the_system_does_not_open_keeps_its_name(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fashion(None)

    def refused(path: object, *_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    monkeypatch.setattr("fmnist.program.reading.open", refused, raising=False)
    refuses(lambda: fashion(None), "train-images", "Too many open files")
    assert not list(cached(small).glob("*.bad"))


def test_crash_while_writing_leaves_nothing_to_be_taken_for_a_file(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch.os, "fsync", crash)
        with pytest.raises(KeyboardInterrupt):
            fashion(None)
    assert list(cached(small).iterdir()) == []
    # A kill leaves no time to clean up: the part it leaves must not be taken for the file.
    (cached(small) / f"{TRAIN_IMAGES}.1.part").write_bytes(b"half")
    fashion(None)
    assert {path.name for path in cached(small).iterdir()} == {*FILES, f"{TRAIN_IMAGES}.1.part"}


@pytest.mark.parametrize("obstacle", ["file in the way", "read-only"])
def test_cache_that_cannot_be_written_is_no_error(
    small: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    root = small.parent / "data"
    root.mkdir()
    if obstacle == "read-only":  # not by permissions: root ignores them

        def refuse(*_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(fetch.Path, "mkdir", refuse)
    else:
        (root / "fashion-mnist").write_text("", encoding="utf-8")
    for dir in (None, str(root)):
        assert fashion(dir)[TRAIN_IMAGES].shape == (20, 3, 2)
    assert all("cannot be kept" in record.message for record in caplog.records)
    assert len(caplog.records) == 8


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_directly_in_a_named_folder_are_found(small: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(fetch, "SOURCES", {})
    folder = small.parent / "mine"
    folder.mkdir()
    written = tiny(folder, suffix=suffix)
    for _ in range(2):
        assert torch.equal(values(fashion(str(folder))[TRAIN_IMAGES]), written[TRAIN_IMAGES])
    assert (folder / "fashion-mnist").is_dir() == bool(suffix)  # unpacked once; raw files need no copy


def test_wrong_checksum_in_a_named_folder_is_refused_and_left_alone(small: Path) -> None:
    folder = small.parent / "mine"
    folder.mkdir()
    written = tiny(folder)
    written[TRAIN_IMAGES][5, 0, 0] ^= 1
    write(folder / TRAIN_IMAGES, written[TRAIN_IMAGES])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    refuses(lambda: fashion(str(folder)), str(folder / TRAIN_IMAGES), "SHA-256", "must be")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_sources_are_tried_in_turn_and_a_bad_one_is_passed_over(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = small.parent / "wrong"
    wrong.mkdir()
    tiny(wrong, rows=24)
    sources = {"none": lambda scratch: small / "none", "wrong": lambda scratch: wrong, **fetch.SOURCES}
    monkeypatch.setattr(fetch, "SOURCES", sources)
    assert fashion(None)[TRAIN_IMAGES].shape == (20, 3, 2)


def test_unreachable_everywhere_is_one_line(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(scratch: Path) -> Path:
        raise OSError("two\nlines")

    monkeypatch.setattr(fetch, "SOURCES", {"a place": lambda scratch: small / "none", "another": broken})
    parts = (str(cached(small)), "a place: ", "holds no", "another: two lines", "put its four IDX files")
    refuses(lambda: fashion(None), *parts)


def test_nowhere_to_download_to_is_one_line(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(**_: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(fetch.tempfile, "TemporaryDirectory", nowhere)
    refuses(lambda: fashion(None), "a folder: ", "No usable temporary directory found")


def test_a_home_folder_may_be_written_as_a_tilde(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = small.parent / "Zoë (home)"
    (home / "mine").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    fetch.fetch_missing("fashion", "~/mine")
    assert len(list((home / "mine" / "fashion-mnist").iterdir())) == len(FILES)
    monkeypatch.setattr(fetch, "SOURCES", {})
    fetch.fetch_missing("fashion", "~/mine")
    assert fashion("~/mine")[TRAIN_LABELS].path.parent == home / "mine" / "fashion-mnist"
    written = tiny(home / "mine")
    assert torch.equal(values(idx("~/mine")[TEST_IMAGES]), written[TEST_IMAGES])
    refuses(lambda: idx("~/other"), "data.dir must be an existing folder, got '~/other'")


# --- reading ahead


def test_files_read_ahead_are_used_once_and_so_are_their_errors(tmp_path: Path) -> None:
    written = tiny(tmp_path)
    fetch.read_ahead("idx", str(tmp_path))
    assert torch.equal(values(fetch.files("idx", str(tmp_path)).files[TRAIN_IMAGES]), written[TRAIN_IMAGES])
    (tmp_path / TRAIN_LABELS).unlink()
    refuses(lambda: fetch.files("idx", str(tmp_path)), "holds no")  # read anew, not remembered
    fetch.read_ahead("idx", str(tmp_path))
    refuses(lambda: fetch.files("idx", str(tmp_path)), "holds no")
    tiny(tmp_path)
    assert fetch.files("idx", str(tmp_path))


def test_files_that_are_kept_are_read_once_until_others_are(tmp_path: Path) -> None:
    folder, other = tmp_path / "one", tmp_path / "other"
    for made in (folder, other):
        made.mkdir()
        tiny(made)
    fetch.read_ahead("idx", str(folder), keep=True)
    first = fetch.files("idx", str(folder))
    shutil.rmtree(folder)
    fetch.read_ahead("idx", str(folder), keep=True)
    assert fetch.files("idx", str(folder)) is first
    fetch.read_ahead("idx", str(other), keep=True)
    assert fetch.files("idx", str(other)).files[TRAIN_LABELS].shape == (20,)
    refuses(lambda: fetch.files("idx", str(folder)), "data.dir must be an existing folder")  # only the last is kept


def test_of_files_that_are_kept_an_error_is_not(tmp_path: Path) -> None:
    asked = "idx", str(tmp_path / "mine")
    fetch.read_ahead(*asked, keep=True)
    refuses(lambda: fetch.files(*asked), "data.dir must be an existing folder")
    fetch.read_ahead(*asked, keep=True)
    refuses(lambda: fetch.files(*asked), "data.dir must be an existing folder")
    fetch.read_ahead(*asked, keep=True)
    fetch._ahead[asked].source.exception()  # it has failed, and nobody has asked for it
    (tmp_path / "mine").mkdir()
    tiny(tmp_path / "mine")
    fetch.read_ahead(*asked, keep=True)
    assert fetch.files(*asked) is fetch.files(*asked)


def test_ctrl_c_does_not_wait_for_a_download_that_hangs(tmp_path: Path) -> None:
    code = """
import sys, threading
from pathlib import Path
from fmnist.sources import fetch
begun = threading.Event()
def hang(scratch):
    begun.set()
    threading.Event().wait()
fetch.DATA, fetch.SOURCES = Path(sys.argv[1]), {"a mirror": hang}
fetch.read_ahead("fashion", None)
begun.wait()
raise KeyboardInterrupt
"""
    done = subprocess.run(  # without a limit of time, a program that waits would stop the whole suite
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=120
    )
    assert "KeyboardInterrupt" in done.stderr


# --- the command


def test_command_prints_the_verified_files() -> None:
    done = subprocess.run([sys.executable, "-m", "fmnist.data"], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    counts = ("60,000", "60,000", "10,000", "10,000")
    for line, (name, sha256), rows in zip(lines, fetch.FASHION.items(), counts, strict=True):
        assert all(part in line for part in (name, sha256[:12], f"{rows} rows"))
        assert line.endswith("ok")


def test_command_refuses_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = "error: data.dir must be an existing folder, got '/no/such/folder'\n"
    assert said(monkeypatch, capsys, main, "/no/such/folder") == (2, "", line)


def test_command_ends_without_a_traceback_after_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(dir: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "fashion", interrupted)
    assert said(monkeypatch, capsys, main) == (130, "", "")
