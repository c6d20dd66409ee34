"""fmnist.sources.idx: IDX files of all types as they are read, and the line with which others are refused."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import FILES, refuses, tiny, values, write

from fmnist.sources import fetch
from fmnist.sources.fetch import idx

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES


def test_raw_is_preferred_to_gz_and_other_files_are_ignored(tmp_path: Path) -> None:
    written = tiny(tmp_path)
    for name in FILES:
        (tmp_path / f"{name}.gz").write_bytes(b"not read")
        (tmp_path / f"{name}.bad").write_bytes(b"not read")
        (tmp_path / f"old-{name}").write_bytes(b"not read")
    assert torch.equal(values(idx(str(tmp_path))[TRAIN_IMAGES]), written[TRAIN_IMAGES])


INTEGERS = {
    0x08: "B",
    0x09: "b",
    0x0B: "h",
    0x0C: "i",
}  # types of whole numbers: struct's letters


def typed(kind: int, letter: str, shape: list[int], numbers: list[int]) -> bytes:
    """An IDX file of any type."""
    header = bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + struct.pack(f">{len(numbers)}{letter}", *numbers)


@pytest.mark.parametrize("columns", [1, 8])
@pytest.mark.parametrize("kind", INTEGERS)
def test_labels_of_any_integer_type_are_read(tmp_path: Path, kind: int, columns: int) -> None:
    written = tiny(tmp_path)[TRAIN_LABELS].tolist()
    written[3] = 127
    (tmp_path / TRAIN_LABELS).unlink()
    other = [100] * (columns - 1)  # what QMNIST has beside the class
    numbers = [number for label in written for number in [label, *other]]
    shape = [20] if columns == 1 else [20, columns]
    content = typed(kind, INTEGERS[kind], shape, numbers)
    (tmp_path / "train-labels-idx2-int.gz").write_bytes(gzip.compress(content))  # QMNIST's name
    file = idx(str(tmp_path))[TRAIN_LABELS]
    assert file.shape == (20,)
    assert [file.labels[place] for place in values(file)] == written


@pytest.mark.parametrize(("kind", "letter", "name"), [(0x0D, "f", "float"), (0x0E, "d", "double")])
def test_labels_that_are_not_whole_are_refused_by_the_name_of_their_type(
    tmp_path: Path, kind: int, letter: str, name: str
) -> None:
    tiny(tmp_path)
    (tmp_path / TRAIN_LABELS).write_bytes(typed(kind, letter, [20], [1] * 20))
    reason = f"its values are of type {name}, those of labels must be of an integer type"
    refuses(lambda: idx(str(tmp_path)), f"{tmp_path / TRAIN_LABELS}: {reason}")


@pytest.mark.parametrize(("kind", "letter", "name"), [
    (0x09, "b", "signed byte"), (0x0B, "h", "short"), (0x0C, "i", "int"), (0x0D, "f", "float"), (0x0E, "d", "double"),
])  # fmt: skip
def test_images_of_another_type_are_refused_by_its_name(tmp_path: Path, kind: int, letter: str, name: str) -> None:
    tiny(tmp_path)
    (tmp_path / TEST_IMAGES).write_bytes(typed(kind, letter, [8, 3, 2], [1] * 48))
    reason = f"its values are of type {name}, those of images must be of type unsigned byte"
    refuses(lambda: idx(str(tmp_path)), f"{tmp_path / TEST_IMAGES}: {reason}")


@pytest.mark.parametrize(("kind", "labels"), [
    (0x08, [1, 2, 3]), (0x08, [0, 7, 255]), (0x09, [-1, 1]), (0x0B, [-300, 0, 300]), (0x0C, [2**31 - 1, 5]),
])  # fmt: skip
def test_labels_are_classes_in_the_order_of_their_values(tmp_path: Path, kind: int, labels: list[int]) -> None:
    tiny(tmp_path)
    given = {TRAIN_LABELS: (labels * 20)[:20], TEST_LABELS: (labels[-1:] * 8)}
    for name, numbers in given.items():
        (tmp_path / name).write_bytes(typed(kind, INTEGERS[kind], [len(numbers)], numbers))
    source = fetch.files("idx", str(tmp_path))
    assert source.labels == tuple(sorted(labels))
    assert source.names == tuple(map(str, sorted(labels)))
    for name, numbers in given.items():
        assert [source.labels[place] for place in values(source.files[name])] == numbers


def test_too_many_labels_are_no_classes(tmp_path: Path) -> None:
    tiny(tmp_path, rows=300)
    (tmp_path / TRAIN_LABELS).write_bytes(typed(0x0C, "i", [300], list(range(300))))
    refuses(lambda: idx(str(tmp_path)), f"{tmp_path / TRAIN_LABELS}: 300 different labels, at most 256 can be classes")


@pytest.mark.parametrize(("labels", "allowed"), [(range(1, 4), "1..3"), ([1, 3, 7], "1, 3, 7")])
def test_test_labels_that_training_has_not_are_refused(tmp_path: Path, labels: list[int], allowed: str) -> None:
    tiny(tmp_path)
    (tmp_path / TRAIN_LABELS).write_bytes(typed(0x08, "B", [20], ([*labels] * 20)[:20]))
    (tmp_path / TEST_LABELS).write_bytes(typed(0x08, "B", [8], [1] * 7 + [9]))
    line = f"{tmp_path / TEST_LABELS}: label 9, must be in {allowed}"
    refuses(lambda: fetch.files("idx", str(tmp_path)), line)


def test_labels_with_other_numbers_beside_them_are_refused(tmp_path: Path) -> None:
    tiny(tmp_path)
    (tmp_path / TEST_LABELS).write_bytes(typed(0x08, "B", [8, 10], [0] * 80))  # one number for each of ten classes
    refuses(lambda: idx(str(tmp_path)), f"{tmp_path / TEST_LABELS}: 10 numbers for a label, must be 1")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-1], "truncated"),
        (lambda content: content[:3], "truncated"),
        (lambda content: b"", "truncated"),
        (lambda content: content + b"\0", "trailing bytes"),
        (lambda content: b"\1" + content[1:], "wrong magic 0100"),
        (lambda content: b"\0\0\x0a" + content[3:], "wrong magic 00000a"),
        (lambda content: content[:3] + bytes([4 - content[3]]) + content[4:], "wrong magic"),
        (lambda content: content[:4] + bytes(4) + content[8 : 16 if content[3] == 3 else 8], "empty"),
    ],
)
def test_damaged_idx_is_refused(tmp_path: Path, name: str, damage: Callable[[bytes], bytes], reason: str) -> None:
    written = tiny(tmp_path)
    content = write(tmp_path / name, written[name])
    (tmp_path / name).write_bytes(damage(content))
    refuses(lambda: idx(str(tmp_path)), str(tmp_path / name), reason)
    (tmp_path / name).unlink()
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(damage(content)))
    refuses(lambda: idx(str(tmp_path)), f"{name}.gz", reason)


def test_qmnists_header_may_be_cut_as_well(tmp_path: Path) -> None:
    tiny(tmp_path)
    (tmp_path / TEST_LABELS).write_bytes(typed(0x0C, "i", [8, 8], [0] * 64)[:10])
    refuses(lambda: idx(str(tmp_path)), str(tmp_path / TEST_LABELS), "truncated")


@pytest.mark.parametrize("damage", ["cut", "not gzip", "flipped"])
def test_corrupt_gzip_is_refused(tmp_path: Path, damage: str) -> None:
    tiny(tmp_path, suffix=".gz")
    path = tmp_path / f"{TEST_IMAGES}.gz"
    packed = bytearray(path.read_bytes())
    packed[-6] ^= 255  # in the checksum at the end
    path.write_bytes({"cut": packed[:-10], "not gzip": b"<html>", "flipped": packed}[damage])
    refuses(lambda: idx(str(tmp_path)), str(path), "cannot be read")


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named_with_its_folder(tmp_path: Path, name: str) -> None:
    tiny(tmp_path)
    (tmp_path / name).unlink()
    refuses(lambda: idx(str(tmp_path)), f"{tmp_path}: holds no {name}", "raw or .gz")
