"""`python -m fmnist.data convert`: what is converted is, byte for byte, what the arrays and pictures have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import said
from PIL import Image

from fmnist.data.__main__ import main
from fmnist.data.dataset import load
from fmnist.sources import fetch

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.integers(0, 256, (40, 6, 5), dtype=np.uint8), np.arange(40) % 4
XT, YT = RANDOM.integers(0, 256, (12, 6, 5), dtype=np.uint8), np.arange(12) % 4
SPLIT = {"split": 0.5, "split_by": "tail", "split_seed": 0, "limit": None}


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: Any, capsys: Any, caplog: Any) -> Any:
    """The command, from tmp_path/source to tmp_path/target: what it says, and the data as arrays."""

    def run(source: str, *options: object, target: str = "target") -> tuple[str, Any]:
        status, out, err = said(monkeypatch, capsys, main, "convert", tmp_path / source, tmp_path / target, *options)
        assert status == 0, err
        data = load(name="idx", dir=str(tmp_path / target), **SPLIT)
        assert data.validation is not None
        parts = (data.train, data.validation, data.test)
        images = [part.images.numpy().reshape(-1, data.height, data.width) for part in parts]
        labels = [np.array(data.names)[part.labels.numpy()] for part in parts]
        return out + caplog.text, (np.concatenate(images[:2]), np.concatenate(labels[:2]), images[2], labels[2])

    return run


def same(found: Any, *expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.tolist() == other.tolist()


def names(labels: Any) -> Any:
    return labels.astype(str)


ARRAYS = {
    "keras": {"x_train": X, "y_train": Y, "x_test": XT, "y_test": YT},
    "medmnist": {"train_images": X, "train_labels": Y[:, None], "test_images": XT, "test_labels": YT[:, None]},
    "mnist-c": {"train_images": X[..., None], "train_labels": Y, "test_images": XT[..., None], "test_labels": YT},
    "channels first": {"x_train": X[:, None], "y_train": Y.astype(float), "x_test": XT[:, None], "y_test": YT},
    "fractions": {"X_train": X / 255, "y_train": Y, "X_test": (XT / np.float32(255)).astype("f4"), "y_test": YT},
    "whole numbers": {"x_train": X.astype("i8"), "y_train": Y.astype("u1"), "x_test": XT.astype("f4"), "y_test": YT},
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("folder", [False, True])
def test_arrays_are_converted_as_they_are(tmp_path: Path, convert: Any, kind: str, folder: bool) -> None:
    if folder:
        (tmp_path / "source").mkdir()
        for name, array in ARRAYS[kind].items():
            np.save(tmp_path / "source" / f"{name}.npy", array)
    else:
        np.savez(tmp_path / "source.npz", **ARRAYS[kind])
    out, found = convert("source" if folder else "source.npz")
    same(found, X, names(Y), XT, names(YT))
    assert "40 images of 6x5" in out
    assert "12 labels, 4 classes" in out


def test_rows_of_numbers_are_images_of_a_size_that_is_given(tmp_path: Path, convert: Any) -> None:
    np.savez(tmp_path / "a.npz", x_train=X.reshape(40, 30), y_train=Y, x_test=XT.reshape(12, 30), y_test=YT)
    same(convert("a.npz", "--size", "6x5")[1], X, names(Y), XT, names(YT))


def test_truth_values_are_black_and_white(tmp_path: Path, convert: Any) -> None:
    np.savez(tmp_path / "a.npz", x_train=X > 99, y_train=Y > 0, x_test=XT > 99, y_test=YT > 0)
    same(convert("a.npz")[1], (X > 99) * 255, names((Y > 0) * 1), (XT > 99) * 255, names((YT > 0) * 1))


@pytest.mark.parametrize("labels", [[1, 2, 3, 26], [-1, 0, 1, 300], [7, 100, 200, 255]])
def test_labels_that_are_numbers_stay_as_they_are(tmp_path: Path, convert: Any, labels: list[int]) -> None:
    own, test = np.array(labels)[Y], np.array(labels)[YT]
    np.savez(tmp_path / "a.npz", x_train=X, y_train=own, x_test=XT, y_test=test)
    same(convert("a.npz")[1], X, names(own), XT, names(test))
    assert fetch.files("idx", str(tmp_path / "target")).labels == tuple(sorted(labels))
    assert not (tmp_path / "target" / "classes.txt").exists()


def test_labels_that_are_names_are_in_classes_txt(tmp_path: Path, convert: Any) -> None:
    own = np.array(["dog", "Äpfel", "cat", "10"])
    np.savez(tmp_path / "a.npz", x_train=X, y_train=own[Y], x_test=XT, y_test=own[YT], val_images=X)
    out, found = convert("a.npz")
    same(found, X, own[Y], XT, own[YT])
    assert (tmp_path / "target" / "classes.txt").read_text(encoding="utf-8") == "10\ncat\ndog\nÄpfel\n"
    assert "left out: val_images" in out


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("x_train", "y_train")])
def test_a_share_of_each_class_is_set_aside_for_testing(tmp_path: Path, convert: Any, keys: tuple[str, str]) -> None:
    np.savez(tmp_path / "a.npz", **dict(zip(keys, (X, Y), strict=True)))
    found = {seed: convert("a.npz", "--test-share", 0.2, "--seed", seed, target=f"t{seed}")[1] for seed in (0, 1)}
    for images, labels, test_images, test_labels in found.values():
        assert np.unique(test_labels, return_counts=True)[1].tolist() == [2] * 4
        whole = {image.tobytes(): str(label) for image, label in zip(X, Y, strict=True)}
        for part, own in ((images, labels), (test_images, test_labels)):
            assert [whole.pop(image.tobytes()) for image in part] == own.tolist()
        assert not whole  # each image is in one part
    assert found[0][2].tolist() != found[1][2].tolist()


def test_a_part_for_testing_alone_is_a_test_set(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    np.savez(tmp_path / "a.npz", test_images=XT, test_labels=YT)
    status, out, _ = said(monkeypatch, capsys, main, "convert", tmp_path / "a.npz", tmp_path / "t")
    assert status == 0
    assert len(out.splitlines()) == 2
    images, labels = fetch.test_set(str(tmp_path / "t"), (0, 1, 2, 3), ("0", "1", "2", "3"))
    assert images.content[images.start :] == XT.tobytes()
    assert list(labels.content[labels.start :]) == YT.tolist()


# --- pictures


def draw(folder: Path, images: Any, labels: Any, kind: str = "png") -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{number:03}.{kind}")


def pairs(images: Any, labels: Any) -> list[tuple[bytes, str]]:
    return sorted((image.tobytes(), str(label)) for image, label in zip(images, labels, strict=True))


@pytest.mark.parametrize("parts", [("train", "test"), ("training", "testing")])
@pytest.mark.parametrize("classes", [["0", "1", "2", "3"], ["cat", "dog", "Äpfel", "z"]])
def test_pictures_by_class_are_converted(tmp_path: Path, convert: Any, parts: Any, classes: list[str]) -> None:
    own, test = np.array(classes)[Y], np.array(classes)[YT]
    draw(tmp_path / "source" / parts[0], X, own)
    draw(tmp_path / "source" / parts[1], XT, test)
    (tmp_path / "source" / parts[0] / classes[0] / "Thumbs.db").write_bytes(b"")
    (tmp_path / "source" / ".DS_Store").write_bytes(b"")
    out, found = convert("source")
    assert pairs(*found[:2]) == pairs(X, own)
    assert pairs(*found[2:]) == pairs(XT, test)
    assert len(set(found[1][-8:].tolist())) > 1  # the rows that validate are not of one class
    assert "Thumbs.db" in out
    assert "DS_Store" not in out


def test_pictures_that_are_not_parted_are(tmp_path: Path, convert: Any) -> None:
    draw(tmp_path / "source", X, Y)
    found = convert("source", "--test-share", 0.25)[1]
    assert pairs(*found[:2]) + pairs(*found[2:]) != pairs(X, Y)
    assert sorted(pairs(*found[:2]) + pairs(*found[2:])) == pairs(X, Y)
    assert len(found[2]) == 8


def test_pictures_are_brought_to_a_size(tmp_path: Path, convert: Any) -> None:
    grey = np.full((9, 7), 80, dtype=np.uint8)
    draw(tmp_path / "source" / "train", [grey, grey[:5]], ["a", "b"], "jpg")
    draw(tmp_path / "source" / "test", [grey[:, :3]], ["a"], "JPEG")
    found = convert("source", "--size", "4x6")[1]
    assert found[0].shape == (2, 4, 6)
    assert (found[0] == 80).all()
    assert (found[2] == 80).all()


def test_colour_transparency_and_16_bits_become_grey_levels(tmp_path: Path, convert: Any) -> None:
    deep = (X[0].astype(np.uint16) << 8) + 200
    clear = np.stack([X[1]] * 3 + [np.where(X[1] > 99, 255, 0).astype(np.uint8)], -1)
    colour = np.stack([X[2], X[3], X[4]], -1)
    kinds = {"deep": deep, "clear": clear, "colour": colour, "bits": X[5] > 99}
    draw(tmp_path / "source" / "train", kinds.values(), kinds)
    draw(tmp_path / "source" / "test", [X[6]], ["deep"])
    found = dict(zip(*convert("source")[1][1::-1], strict=True))
    assert found["deep"].tolist() == X[0].tolist()
    assert found["clear"].tolist() == np.where(X[1] > 99, X[1], 0).tolist()
    assert np.abs(found["colour"] - colour @ [0.299, 0.587, 0.114]).max() <= 1
    assert found["bits"].tolist() == ((X[5] > 99) * 255).tolist()


# --- refusals


def pictures(folder: Path) -> None:
    draw(folder / "source" / "train", X, Y)
    draw(folder / "source" / "test", XT, YT)


def with_another_size(folder: Path) -> None:
    pictures(folder)
    draw(folder / "source" / "test", [X[0][:, :4]], ["3"])


def with_a_damaged_one(folder: Path) -> None:
    pictures(folder)
    (folder / "source" / "test" / "1" / "001.png").write_bytes(b"\x89PNG\r\n\x1a\nno")


def with_an_empty_class(folder: Path) -> None:
    pictures(folder)
    (folder / "source" / "train" / "9").mkdir()


def with_folders_of_arrays(folder: Path) -> None:
    (folder / "source" / "fog").mkdir(parents=True)
    np.save(folder / "source" / "fog" / "test_images.npy", X)


def with_a_new_class(folder: Path) -> None:
    pictures(folder)
    draw(folder / "source" / "test", [X[0]], ["new"])


def arrays(**given: Any) -> Any:
    return lambda folder: np.savez(folder / "source", **{**ARRAYS["keras"], **given})


@pytest.mark.parametrize(("make", "options", "reason"), [
    (lambda folder: None, (), "source: there is no such file or folder"),
    (lambda folder: (folder / "source").mkdir(), (), "source: holds no .npy files, and no folder of PNG or JPEG"),
    (lambda folder: (folder / "source").write_bytes(b"no"), (), "source: cannot be read as arrays"),
    (lambda folder: np.savez(folder / "source", a=X), (), "source: has the arrays a; must have x_train and y_train"),
    (with_folders_of_arrays, (), "source: its folders have .npy files: name one of them, as in"),
    (arrays(x_train=np.array([{}])), (), "source: cannot be read as arrays"),
    (arrays(x_train=X[1:]), (), "source: x_train has 39 images, but y_train 40 labels"),
    (arrays(x_train=X[:, 1:]), (), "images must have one size: train 5x5, test 6x5"),
    (arrays(x_train=X.reshape(40, 30)), (), "x_train: is 40x30 of type uint8, must be grey images x height x width"),
    (arrays(x_train=X.reshape(40, 30)), ("--size", "5x5"), "x_train: is 40x30"),
    (arrays(x_train=np.stack([X] * 3, -1)), (), "x_train: is 40x6x5x3 of type uint8, must be grey"),
    (arrays(x_train=X / 127.5 - 1), (), "x_train: its values are -1 to 1 of type float64, must be grey levels"),
    (arrays(x_train=X.astype("u2") * 257), (), "of type uint16, must be grey levels"),
    (arrays(x_test=XT * np.nan), (), "x_test: its values are nan to nan"),
    (arrays(y_train=np.eye(4)[Y]), (), "y_train: is 40x4 of type float64, must be a whole number or a name"),
    (arrays(y_test=YT + 0.5), (), "y_test: is 12 of type float64"),
    (arrays(y_test=YT + 1), (), "class 4 has images for testing only"),
    (arrays(), ("--test-share", 0.2), "--test-share must be left out"),
    (lambda folder: np.savez(folder / "source", x=X, y=Y), (), "--test-share 0.2 sets a fifth of each class aside"),
    (lambda folder: np.savez(folder / "source", x=X, y=Y), ("--test-share", 1.5), "must be in (0, 1), got 1.5"),
    (lambda folder: np.savez(folder / "source", x=X, y=Y), ("--test-share", 0.01), "leaves none for testing"),
    (arrays(x_train=X[[0] * 300], y_train=np.arange(300)), (), "there are 300 different labels, at most 256"),
    (with_another_size, (), "test/3/000.png: is 6x4, but"), (with_another_size, (), "is 6x5: --size 6x5 brings all to"),
    (with_a_damaged_one, (), "test/1/001.png: cannot be read as a picture"),
    (with_an_empty_class, (), "train/9: holds no PNG or JPEG files"),
    (with_a_new_class, (), "class new has images for testing only"),
])  # fmt: skip
def test_what_cannot_be_converted_is_refused_by_name_and_nothing_is_written(
    tmp_path: Path, monkeypatch: Any, capsys: Any, make: Any, options: Any, reason: str
) -> None:
    make(tmp_path)
    source = tmp_path / "source"
    if (tmp_path / "source.npz").exists():
        (tmp_path / "source.npz").rename(source)
    status, out, err = said(monkeypatch, capsys, main, "convert", source, tmp_path / "target", *options)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert reason in line
    assert not (tmp_path / "target").exists()


def test_files_that_are_there_are_left_alone(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    arrays()(tmp_path)
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "t10k-images.idx3-ubyte.gz").write_bytes(b"mine")
    status, _, err = said(monkeypatch, capsys, main, "convert", tmp_path / "source.npz", tmp_path / "target")
    assert status == 2
    assert "target: holds t10k-images.idx3-ubyte.gz already: choose another TARGET" in err
    assert len(list((tmp_path / "target").iterdir())) == 1


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    arrays()(tmp_path)
    calls: list[int] = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 3:
            raise OSError(28, "No space left on device", "t10k")

    monkeypatch.setattr("os.fsync", full)
    status, _, err = said(monkeypatch, capsys, main, "convert", tmp_path / "source.npz", tmp_path / "target")
    assert (status, err) == (1, "error: t10k: No space left on device\n")
    assert not list((tmp_path / "target").iterdir())
