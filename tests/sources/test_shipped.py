"""fmnist.sources: data sets as their authors ship them, made up in small: names of files, labels, names of classes."""

import gzip
import struct
from pathlib import Path

import pytest
import torch
from helpers import refuses, values, write
from torch import Tensor

from fmnist.config.parse import check_machine, parse
from fmnist.data.dataset import load
from fmnist.sources import fetch, idx, sums
from fmnist.sources.fetch import FASHION

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FASHION
SPLIT = {"split": 0.5, "split_by": "tail", "split_seed": 0, "limit": None}


def pixels(rows: int, seed: int = 0) -> Tensor:
    """Images of 3x2."""
    return torch.randint(256, (rows, 3, 2), generator=torch.Generator().manual_seed(seed))


def emnist(folder: Path, subset: str, labels: Tensor, mapping: str, suffix: str = ".gz", test: str = "test") -> Tensor:
    """A subset of EMNIST: images are stored column by column. Gives them upright."""
    upright = pixels(len(labels), seed=len(subset))
    for part in ("train", test):
        write(folder / f"emnist-{subset}-{part}-images-idx3-ubyte{suffix}", upright.mT)
        write(folder / f"emnist-{subset}-{part}-labels-idx1-ubyte{suffix}", labels)
    (folder / f"emnist-{subset}-mapping.txt").write_text(mapping, encoding="utf-8")
    return upright


LETTERS = torch.arange(26) + 1
LETTERS_MAPPING = "".join(f"{place} {64 + place} {96 + place}\n" for place in range(1, 27))


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_letters_of_emnist_are_upright_and_have_names(tmp_path: Path, suffix: str) -> None:
    upright = emnist(tmp_path, "letters", LETTERS, LETTERS_MAPPING, suffix)
    data = load(name="idx", dir=str(tmp_path), **SPLIT)
    assert (data.height, data.width, data.classes) == (3, 2, 26)
    assert data.names[:2] == ("A/a", "B/b")
    assert data.labels == tuple(range(1, 27))
    assert torch.equal(data.test.images, upright.flatten(1).to(torch.uint8))
    assert torch.equal(data.test.labels, torch.arange(26))
    assert data.test.images.is_contiguous()
    assert any("upright" in remark for remark in data.remarks)


def test_without_a_mapping_the_labels_are_the_names(tmp_path: Path) -> None:
    emnist(tmp_path, "letters", LETTERS, LETTERS_MAPPING)
    (tmp_path / "emnist-letters-mapping.txt").unlink()
    assert load(name="idx", dir=str(tmp_path), **SPLIT).names == tuple(map(str, range(1, 27)))


def test_of_several_data_sets_in_a_folder_one_is_named(tmp_path: Path) -> None:
    emnist(tmp_path, "letters", LETTERS, LETTERS_MAPPING)
    emnist(tmp_path, "digits", torch.arange(10), "".join(f"{digit} {48 + digit}\n" for digit in range(10)))
    several = f"{tmp_path}: holds several data sets, emnist-digits, emnist-letters: name one, as in {tmp_path}/emnist-"
    refuses(lambda: load(name="idx", dir=str(tmp_path), **SPLIT), several)
    for subset, names in {"letters": ["A/a", "B/b"], "digits": ["0", "1"]}.items():
        place = tmp_path / f"emnist-{subset}"
        check_machine(parse({"model": {"name": "mlp"}, "optim": {"name": "adam"}, "order_seed": 0,
                             "data": {"name": "idx", "dir": str(place)}}))  # fmt: skip
        assert load(name="idx", dir=str(place), **SPLIT).names[:2] == tuple(names)
        assert idx.find(place, TEST_IMAGES) == tmp_path / f"emnist-{subset}-test-images-idx3-ubyte.gz"
        assert idx.read_file(place, TEST_LABELS, None).shape[0] == len(
            load(name="idx", dir=str(place), **SPLIT).test.labels
        )
    refuses(
        lambda: load(name="idx", dir=str(tmp_path / "emnist-byclass"), **SPLIT), "data.dir must be an existing folder"
    )


def test_plain_names_come_before_others(tmp_path: Path) -> None:
    emnist(tmp_path, "letters", LETTERS, LETTERS_MAPPING)
    images = pixels(4)
    for part in ("train", "t10k"):
        write(tmp_path / f"{part}-images-idx3-ubyte", images)
        write(tmp_path / f"{part}-labels-idx1-ubyte", torch.arange(4))
    data = load(name="idx", dir=str(tmp_path), **SPLIT)
    assert torch.equal(data.test.images, images.flatten(1).to(torch.uint8))  # not turned
    assert data.names == ("0", "1", "2", "3")  # the mapping is of another data set


def test_the_same_bytes_turned_are_other_data(tmp_path: Path) -> None:
    emnist(tmp_path, "digits", torch.arange(10), "", suffix="")
    upright = tmp_path / "upright"
    upright.mkdir()
    for name in FASHION:
        idx.find(tmp_path, name).rename(upright / name)  # type: ignore[union-attr]
    digest = fetch.digest("idx", str(upright))
    assert digest == fetch.files("idx", str(upright)).digest
    for name in FASHION:
        part = "emnist-digits-" + name
        (upright / name).rename(upright / part)
    assert fetch.digest("idx", str(upright)) == fetch.files("idx", str(upright)).digest != digest


def test_qmnist_as_shipped(tmp_path: Path) -> None:
    images, labels = pixels(30), torch.arange(30) % 10
    for part in ("train", "test"):
        write(tmp_path / f"qmnist-{part}-images-idx3-ubyte.gz", images)
        numbers = [number for label in labels.tolist() for number in (label, 4, 2100, 7, 30 + label, 281769, 0, 0)]
        content = bytes([0, 0, 0x0C, 2]) + struct.pack(">2I", 30, 8) + struct.pack(">240i", *numbers)
        (tmp_path / f"qmnist-{part}-labels-idx2-int.gz").write_bytes(gzip.compress(content))
        (tmp_path / f"qmnist-{part}-labels.tsv.gz").write_bytes(gzip.compress(b"0\t4\n"))
    (tmp_path / "xnist-images-idx3-ubyte.xz").write_bytes(b"not read")
    data = load(name="idx", dir=str(tmp_path), **SPLIT)
    assert torch.equal(data.test.labels, labels)
    assert torch.equal(data.test.images, images.flatten(1).to(torch.uint8))
    assert data.names == tuple("0123456789")


def test_kmnist_as_shipped(tmp_path: Path) -> None:
    images, labels = pixels(20), torch.arange(20) % 10
    for part in ("train", "t10k"):
        write(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        write(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels)
    (tmp_path / "kmnist_classmap.csv").write_text("index,codepoint,char\n0,U+304A,お\n", encoding="utf-8")
    data = load(name="idx", dir=str(tmp_path), **SPLIT)
    assert torch.equal(data.test.labels, labels)
    assert fetch.digest("idx", str(tmp_path)) == data.digest


def test_a_folder_of_arrays_is_named_with_the_command_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "fog").mkdir()
    (tmp_path / "fog" / "train_images.npy").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "fog"):
        refuses(lambda folder=folder: fetch.idx(str(folder)), "holds no train-images-idx3-ubyte, raw or .gz; ",
                f"python -m fmnist.data convert {folder} TARGET")  # fmt: skip


# --- names of classes, and which bytes these are


def plain(folder: Path, labels: list[int]) -> None:
    """A data set with these labels."""
    for part in ("train", "t10k"):
        write(folder / f"{part}-images-idx3-ubyte", pixels(len(labels)))
        write(folder / f"{part}-labels-idx1-ubyte", torch.tensor(labels))


@pytest.mark.parametrize(("labels", "text", "names"), [
    ([0, 1, 2], "cat\ndog\nÄpfel & Birnen\n", ("cat", "dog", "Äpfel & Birnen")),
    ([0, 2], "cat\ndog\nbird\n", ("cat", "bird")),  # a class without images
    ([1, 2], "cat\ndog\n", ("cat", "dog")),  # as many names as labels, which start with 1
    ([0, 1], "\ufeffcat\r\ndog\r\n\r\n", ("cat", "dog")),  # as Windows writes it
])  # fmt: skip
def test_classes_have_the_names_of_classes_txt(tmp_path: Path, labels: list[int], text: str, names: tuple[str]) -> None:
    plain(tmp_path, labels)
    (tmp_path / "classes.txt").write_bytes(text.encode())
    assert fetch.files("idx", str(tmp_path)).names == names


@pytest.mark.parametrize(("content", "reason"), [
    (b"cat\n", "does not name each of the 2 labels once"), (b"", "does not name each of the 2 labels"),
    (b"cat\ncat\n", "must be different, and not empty"), (b"cat\n\nbird", "must be different, and not empty"),
    (b"\xff\n\xfe\n", "does not name"),
])  # fmt: skip
def test_names_that_do_not_fit_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    plain(tmp_path, [0, 1])
    (tmp_path / "classes.txt").write_bytes(content)
    refuses(lambda: fetch.files("idx", str(tmp_path)), str(tmp_path / "classes.txt"), reason)


def test_before_labels_were_read_by_value_they_were_numbers_of_classes(tmp_path: Path) -> None:
    plain(tmp_path, [1, 2, 4])
    older = fetch.files("idx", str(tmp_path)).numbered()
    assert older.names == ("0", "1", "2", "3", "4")
    assert values(older.files[TRAIN_LABELS]).tolist() == values(older.files[TEST_LABELS]).tolist() == [1, 2, 4]
    assert older.digest == ""
    plain(tmp_path, [0, 1, 2])
    usual = fetch.files("idx", str(tmp_path))
    assert usual.numbered() is usual


def test_fashion_mnists_digest_is_known_and_that_of_the_same_files_as_idx() -> None:
    place = fetch.files("fashion", None).files[TRAIN_IMAGES].path.parent
    expected = sums.short(*FASHION.values())
    assert fetch.digest("fashion", "/nowhere") == expected
    assert fetch.files("fashion", None).digest == fetch.digest("idx", str(place)) == expected
