"""fmnist.sources.sums: what is summed once is not summed again, until the file is another one."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import FILES, tiny

from fmnist.sources import fetch, sums

TEST_IMAGES, TEST_LABELS = FILES[2:]
sha256 = hashlib.sha256


@pytest.fixture
def summed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what is summed, with an empty cache folder in which sums of small files are kept too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sums, "LEAST", 0)
    sizes: list[int] = []

    def counted(content: bytes | bytearray) -> Any:
        if b"\0\0\x08" in content[:3]:  # an IDX file, and no list of sums
            sizes.append(len(content))
        return sha256(content)

    monkeypatch.setattr(sums.hashlib, "sha256", counted)
    next_process()
    return sizes


def next_process() -> None:
    """Forget what a process knows that has ended."""
    sums._learned.clear()
    sums._kept.cache_clear()


def made(folder: Path, suffix: str = "") -> str:
    """The place of a small data set."""
    folder.mkdir()
    tiny(folder, rows=300, suffix=suffix)
    return str(folder)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_each_file_is_summed_once(tmp_path: Path, summed: list[int], suffix: str) -> None:
    place = made(tmp_path / "data", suffix)
    first = fetch.files("idx", place).digest
    assert len(summed) == 4
    assert {first} == {fetch.files("idx", place).digest, fetch.digest("idx", place)}
    next_process()
    assert {first} == {fetch.digest("idx", place), fetch.files("idx", place).digest}
    assert len(summed) == 4


def test_a_file_that_has_changed_is_summed_again_and_no_other(tmp_path: Path, summed: list[int]) -> None:
    place = made(tmp_path / "data")
    first = fetch.digest("idx", place)
    file = tmp_path / "data" / TEST_IMAGES
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy that keeps the time
    for other in (fetch.digest("idx", place), fetch.files("idx", place).digest):
        assert other != first
    assert len(summed) == 5
    content[-1] ^= 1
    file.write_bytes(content)
    assert fetch.digest("idx", place) == first  # the same bytes again


def test_the_same_bytes_at_another_place_have_the_same_digest(tmp_path: Path, summed: list[int]) -> None:
    place = made(tmp_path / "data")
    first = fetch.digest("idx", place)
    shutil.move(place, tmp_path / "moved")
    made(tmp_path / "packed", ".gz")
    assert {fetch.digest("idx", str(tmp_path / name)) for name in ("moved", "packed")} == {first}


def no_folder(cache: Path) -> None:
    cache.write_text("in the way", encoding="utf-8")


def damaged(cache: Path) -> None:
    (cache / "fmnist").mkdir(parents=True)
    (cache / "fmnist" / "sums.json").write_text('{"a": [1, 2', encoding="utf-8")


def strange(cache: Path) -> None:
    (cache / "fmnist").mkdir(parents=True)
    (cache / "fmnist" / "sums.json").write_text('{"a": 1, "b": [1]}', encoding="utf-8")


@pytest.mark.parametrize("obstacle", [no_folder, damaged, strange])
def test_without_a_cache_files_are_summed_in_each_process(tmp_path: Path, summed: list[int], obstacle: Any) -> None:
    place = made(tmp_path / "data")
    obstacle(tmp_path / "cache")
    first = fetch.digest("idx", place)
    assert fetch.files("idx", place).digest == first
    assert len(summed) == 4
    next_process()
    assert fetch.digest("idx", place) == first


def test_what_another_process_has_kept_stays(tmp_path: Path, summed: list[int]) -> None:
    fetch.digest("idx", made(tmp_path / "one"))
    next_process()
    fetch.digest("idx", made(tmp_path / "other"))
    kept = json.loads((tmp_path / "cache" / "fmnist" / "sums.json").read_text(encoding="utf-8"))
    assert {Path(path).parent.name for path in kept} == {"one", "other"}


def test_small_files_are_not_kept(tmp_path: Path, summed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "LEAST", 10**6)
    fetch.digest("idx", made(tmp_path / "data"))
    assert not (tmp_path / "cache").exists()


def test_fashion_mnist_is_summed_whatever_is_known(summed: list[int], small: Path) -> None:
    fetch.fashion(None)
    before = len(summed)
    fetch.fashion(None)
    assert len(summed) == before + 4
