"""fmnist.data.dataset: the real data set, any IDX files, what is refused, and splits as properties."""

import hashlib
import tempfile
from pathlib import Path

import pytest
import torch
from helpers import FILES, tiny, write
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist import UserError
from fmnist.data import dataset
from fmnist.data.dataset import Dataset, _choose
from fmnist.sources import fetch
from fmnist.sources.fetch import NAMES

DEFAULTS = {"name": "fashion", "dir": None, "split": 0.8, "split_by": "tail", "split_seed": 0, "limit": None}
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES


def load(**knobs: object) -> Dataset:
    return dataset.load(**{**DEFAULTS, **knobs})


def idx(folder: Path, **knobs: object) -> Dataset:
    return load(name="idx", dir=str(folder), **knobs)


@pytest.fixture(scope="module")
def real() -> Dataset:
    return load()


def refuses(*parts: str, **knobs: object) -> None:
    with pytest.raises(UserError) as caught:
        load(**knobs)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


# --- the real data set


def test_real_data_set(real: Dataset) -> None:
    assert (real.height, real.width, real.classes) == (28, 28, 10)
    assert real.names == NAMES
    assert real.names[0] == "T-shirt/top"
    assert real.names[9] == "Ankle boot"
    assert real.validation is not None
    assert [len(part.images) for part in (real.train, real.validation, real.test)] == [48000, 12000, 10000]
    for part in (real.train, real.validation, real.test):
        assert part.images.shape == (len(part.labels), 784)
        assert part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert part.images.is_contiguous()
    assert real.train.labels[:8].tolist() == [9, 0, 0, 3, 0, 2, 7, 2]
    assert real.test.labels[:8].tolist() == [9, 2, 1, 1, 6, 1, 4, 6]
    counts = torch.bincount(real.train.labels) + torch.bincount(real.validation.labels)
    assert counts.tolist() == [6000] * 10
    assert torch.bincount(real.test.labels).tolist() == [1000] * 10
    # Only pixels that are exactly 0 or 255 can count in the report's autoencoder accuracy: 50.8 %.
    extreme = (real.test.images == 0) | (real.test.images == 255)
    assert extreme.double().mean().item() == pytest.approx(0.508, abs=5e-4)


def test_real_tail_split_keeps_the_files_rows(real: Dataset) -> None:
    other = load(split=0.7)
    assert other.validation is not None
    assert (len(other.train.labels), len(other.validation.labels)) == (42000, 18000)
    assert torch.equal(other.train.images, real.train.images[:42000])
    assert torch.equal(other.validation.images[6000:], real.validation.images)
    whole = load(split=1.0)
    assert whole.validation is None
    assert len(whole.train.labels) == 60000


def test_real_stratified_split() -> None:
    part = load(split=0.9, split_by="stratified", split_seed=3)
    assert part.validation is not None
    assert torch.bincount(part.train.labels).tolist() == [5400] * 10
    assert torch.bincount(part.validation.labels).tolist() == [600] * 10


def test_limit_keeps_the_first_rows_and_all_classes(real: Dataset) -> None:
    part = load(limit=10)
    assert part.validation is not None
    assert [len(x.labels) for x in (part.train, part.validation, part.test)] == [8, 2, 10]
    assert torch.equal(part.train.images, real.train.images[:8])
    assert torch.equal(part.validation.labels, real.train.labels[8:10])
    assert torch.equal(part.test.images, real.test.images[:10])
    assert part.classes == 10


def test_to_device(real: Dataset) -> None:
    moved = load(limit=20).to("meta")
    assert moved.validation is not None
    for part in (moved.train, moved.validation, moved.test):
        assert part.images.device.type == part.labels.device.type == "meta"
    assert load(limit=20, split=1.0).to("cpu").validation is None


# --- any IDX files


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 2**32),
    test_name=st.sampled_from(["t10k", "test"]),
    middle=st.sampled_from(["-idx{}-ubyte", ".idx{}-ubyte", "_idx{}_ubyte", ""]),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_idx_round_trip(shape: tuple[int, int, int], seed: int, test_name: str, middle: str, suffix: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, shape, generator=generator)
    labels = torch.randint(256, shape[:1], generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", test_name):
            write(Path(folder, f"{part}-images{middle.format(3)}{suffix}"), images)
            write(Path(folder, f"{part}-labels{middle.format(1)}{suffix}"), labels)
        read = idx(Path(folder), split=1.0)
    assert (len(read.train.images), read.height, read.width) == shape
    for part in (read.train, read.test):
        assert torch.equal(part.images, images.flatten(1).to(torch.uint8))
        assert torch.equal(torch.tensor(read.labels)[part.labels], labels)
    assert read.classes == len(labels.unique())
    assert read.names == tuple(str(c) for c in read.labels)


def test_classes_come_from_the_whole_training_file(tmp_path: Path) -> None:
    tiny(tmp_path)
    assert idx(tmp_path, limit=2, split=0.5).classes == 4


# --- refusals


@pytest.mark.parametrize("name", [TRAIN_LABELS, TEST_LABELS])
def test_counts_that_differ_are_refused(tmp_path: Path, name: str) -> None:
    values = tiny(tmp_path)
    write(tmp_path / name, values[name][:-1])
    n = len(values[name])
    refuses(f"{tmp_path / name}: {n - 1} labels, must be {n}", name="idx", dir=str(tmp_path))


def test_label_out_of_range_is_refused(tmp_path: Path) -> None:
    values = tiny(tmp_path)
    write(tmp_path / TEST_LABELS, values[TEST_LABELS] + 1)
    refuses(f"{tmp_path / TEST_LABELS}: label 4, must be in 0..3", name="idx", dir=str(tmp_path))


def test_fashion_label_out_of_range_is_refused(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.arange(20) % 11
    content = write(small / f"{TRAIN_LABELS}.gz", labels)
    monkeypatch.setitem(fetch.FASHION, TRAIN_LABELS, hashlib.sha256(content).hexdigest())
    refuses(TRAIN_LABELS, "label 10, must be in 0..9")


def test_image_sizes_that_differ_are_refused(tmp_path: Path) -> None:
    values = tiny(tmp_path)
    write(tmp_path / TEST_IMAGES, values[TEST_IMAGES].mT)
    refuses(f"{tmp_path / TEST_IMAGES}: images are 2x3, but 3x2", name="idx", dir=str(tmp_path))


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"split": 0.99, "limit": 10}, "data.split=0.99 of 10 rows leaves no validation rows"),
        ({"split": 0.01, "limit": 10}, "data.split=0.01 of 10 rows leaves no training rows"),
        ({"split": 0.01, "limit": 10, "split_by": "stratified"}, "leaves no training rows"),
        ({"dir": "/no/such/folder"}, "data.dir must be an existing folder, got '/no/such/folder'"),
        ({"dir": __file__}, "must be an existing folder"),
        ({"name": "idx", "dir": "/no/such/folder"}, "data.dir must be an existing folder, got '/no/such/folder'"),
        ({"name": "idx"}, "data.dir must name the folder"),
    ],
)
def test_knobs_that_the_data_cannot_serve_are_refused(knobs: dict[str, object], reason: str) -> None:
    refuses(reason, **knobs)


# --- splits


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.integers(0, 6), min_size=2, max_size=80),
    split=st.floats(0.01, 0.99),
    by=st.sampled_from(["tail", "stratified"]),
    seed=st.integers(0, 2**40),
)
def test_split_parts_rows_in_proportion(labels: list[int], split: float, by: str, seed: int) -> None:
    rows = torch.tensor(labels)
    n, count = len(labels), round(len(labels) * split)
    if count in (0, n):
        with pytest.raises(UserError, match="leaves no"):
            _choose(rows, split, by, seed)
        return
    train, validation = (torch.arange(n)[part] for part in _choose(rows, split, by, seed))
    assert len(train) == count
    assert sorted(train.tolist() + validation.tolist()) == list(range(n))  # disjoint, and they cover
    for part in (train, validation):
        assert part.tolist() == sorted(part.tolist())
    if by == "tail":
        assert train.tolist() == list(range(count))
    else:
        again = torch.arange(n)[_choose(rows, split, by, seed)[0]]
        assert torch.equal(train, again)
        sizes, taken = torch.bincount(rows, minlength=7), torch.bincount(rows[train], minlength=7)
        assert ((taken - sizes * split).abs() < 1 + 1e-4).all()


def test_stratified_split_depends_on_its_seed() -> None:
    labels = torch.arange(200) % 10
    first, second = (_choose(labels, 0.5, "stratified", seed)[0] for seed in (0, 1))
    assert not torch.equal(torch.as_tensor(first), torch.as_tensor(second))


@pytest.mark.parametrize(("n", "split", "count"), [(60000, 0.7, 42000), (100, 0.57, 57), (100, 0.29, 29)])
def test_split_is_exact_despite_rounding(n: int, split: float, count: int) -> None:
    assert _choose(torch.zeros(n).long(), split, "tail", 0) == (slice(0, count), slice(count, n))
