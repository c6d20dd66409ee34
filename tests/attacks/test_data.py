"""Hostile files of data: refused in one line that names the file, in bounded memory and time."""

import gzip
import os
import struct
from pathlib import Path

import pytest
from attacks.hostile import HUGE, bounded, gzip_bomb, sparse
from helpers import FILES, make_config, refuses, tiny
from training import quick_disk  # noqa: F401 - a fixture that serves each test

from fmnist import UserError, figures
from fmnist.sources import fetch
from fmnist.sources.source import digest_of
from fmnist.train import engine

ROOM = 1 << 28  # bytes that a reader may take
IMAGES, LABELS = FILES[:2]


def header(*shape: int, kind: int = 8) -> bytes:
    """The beginning of an IDX file."""
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


MANY = header(10**6, 10**3, 10**3)  # 10^12 bytes
ATTACKS = {
    "10^12 bytes promised": (IMAGES, MANY, "its header promises 1,000,000,000,016 bytes, more than there is memory"),
    "10^12 bytes promised, packed": (f"{IMAGES}.gz", gzip.compress(MANY), "its header promises"),
    "2^96 images promised": (IMAGES, header(*[2**32 - 1] * 3), "its header promises"),
    "4 10^9 labels promised": (
        LABELS,
        header(2**32 - 1),
        "truncated: 8 bytes, must be 4294967303 by its header|its header promises",
    ),
    "a bomb": (
        f"{IMAGES}.gz",
        gzip_bomb(header(20, 3, 2) + bytes(120), 1 << 11),
        "trailing bytes: more bytes, must be 136",
    ),
    "a bomb of labels": (
        f"{LABELS}.gz",
        gzip_bomb(header(20) + bytes(20), 1 << 11),
        "trailing bytes: more bytes, must be 28",
    ),
    "a bomb that is no IDX file": (f"{IMAGES}.gz", gzip_bomb(b"", 1 << 11), "wrong magic 00000000"),
    "a bomb in a bomb": (f"{IMAGES}.gz", gzip.compress(gzip_bomb(b"", 1 << 11)), "wrong magic 1f8b"),
    "a page": (IMAGES, b"<!DOCTYPE html><script>alert(1)</script>", "wrong magic 3c21444f"),
    "a pickle": (IMAGES, b"\x80\x04\x95cos\nsystem\n", "truncated|wrong magic"),
}


def put(folder: Path, name: str, content: bytes) -> Path:
    """A file in the place of the one that has this name, packed or not."""
    for old in folder.glob(f"{name.removesuffix('.gz')}*"):
        old.unlink()
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("what", ATTACKS)
def test_a_hostile_file_of_data_is_one_line(what, tmp_path):
    tiny(tmp_path)
    name, content, reason = ATTACKS[what]
    file = put(tmp_path, name, content)
    with bounded(ROOM):
        for read in (lambda: fetch.files("idx", str(tmp_path)), lambda: digest_of(tmp_path)):
            with pytest.raises(UserError, match=reason) as caught:
                read()
            assert str(caught.value).startswith(str(file))
            assert "\n" not in str(caught.value)


def test_a_file_of_ten_gigabytes_is_read_as_far_as_its_header_promises(tmp_path):
    tiny(tmp_path)
    beginning = (tmp_path / IMAGES).read_bytes()
    sparse(tmp_path / IMAGES, beginning)
    with bounded(ROOM):
        refuses(lambda: fetch.idx(str(tmp_path)), f"{tmp_path / IMAGES}: trailing bytes: more bytes, must be 136")


def test_a_pipe_is_no_file_of_data(tmp_path):
    tiny(tmp_path)
    (tmp_path / IMAGES).unlink()
    os.mkfifo(tmp_path / IMAGES)
    with bounded(ROOM):
        refuses(lambda: fetch.idx(str(tmp_path)), f"{tmp_path}: holds no {IMAGES}")


@pytest.mark.parametrize("name", ["classes.txt", "emnist-letters-mapping.txt"])
def test_names_of_classes_of_ten_gigabytes_are_one_line(name, tmp_path):
    tiny(tmp_path)
    place = tmp_path
    if "mapping" in name:
        for file in FILES:
            (tmp_path / file).rename(tmp_path / f"emnist-letters-{file}")
        place = tmp_path / "emnist-letters"
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, HUGE)
    with bounded(ROOM):
        refuses(lambda: fetch.files("idx", str(place)), f"{tmp_path / name} must have at most 1,048,576 bytes")


@pytest.mark.long
def test_names_of_classes_are_drawn_as_they_are(tmp_path, monkeypatch, capsys):
    """matplotlib would read a formula between dollars, and fail for one that it does not know."""
    (tmp_path / "data").mkdir()
    tiny(tmp_path / "data")
    (tmp_path / "data" / "classes.txt").write_text("$\\frac{$\n<b>\n\\x\n$\n", encoding="utf-8")
    knobs = {"data": "idx", "data.dir": str(tmp_path / "data"), "data.split_by": "stratified", "figures": False}
    engine.fit([make_config("autoencoder", epochs=1, **knobs, **{"model.hidden": [4, 2]})], [tmp_path / "run"])
    monkeypatch.setattr("sys.argv", ["figures", str(tmp_path / "run")])
    figures.main()
    assert (tmp_path / "run" / "figures" / "map.png").exists()
