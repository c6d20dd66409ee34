"""fmnist.data: the real files, every refusal, the cache, and splits, order and slices as properties."""

import functools
import gzip
import hashlib
import http.server
import logging
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch
from helpers import FILES, tiny, write
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist import UserError
from fmnist.data import dataset, fetch
from fmnist.data.__main__ import main
from fmnist.data.batches import order, slices
from fmnist.data.dataset import NAMES, Dataset, _choose, derive

DEFAULTS = {"name": "fashion", "dir": None, "split": 0.8, "split_by": "tail", "split_seed": 0, "limit": None}
ROOT = Path(__file__).parents[1]
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES


def load(**knobs: object) -> Dataset:
    return dataset.load(**{**DEFAULTS, **knobs})


def idx(folder: Path, **knobs: object) -> Dataset:
    return load(name="idx", dir=str(folder), **knobs)


@pytest.fixture(scope="module")
def real() -> Dataset:
    return load()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small .gz "Fashion-MNIST" as the only source; data/ is an empty folder beside it."""
    source = tmp_path / "source"
    source.mkdir()
    tiny(source, suffix=".gz")
    contents = {name: gzip.decompress((source / f"{name}.gz").read_bytes()) for name in FILES}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(fetch, "FASHION", sums)
    monkeypatch.setattr(fetch, "SOURCES", {"a folder": lambda scratch: source})
    monkeypatch.setattr(fetch, "DATA", tmp_path / "data")
    return source


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
    assert ((real.test.images == 0) | (real.test.images == 255)).double().mean().item() == pytest.approx(
        0.508, abs=5e-4
    )


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


def test_command_prints_the_verified_files() -> None:
    done = subprocess.run([sys.executable, "-m", "fmnist.data"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    counts = ("60,000", "60,000", "10,000", "10,000")
    for line, (name, sha256), rows in zip(lines, fetch.FASHION.items(), counts, strict=True):
        assert all(part in line for part in (name, sha256[:12], f"{rows} rows"))
        assert line.endswith("ok")


def test_command_refuses_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["data", "/no/such/folder"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: data.dir must be an existing folder, got '/no/such/folder'\n"


def test_files_read_ahead_are_used_once_and_their_errors_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = tiny(tmp_path)
    fetch.read_ahead("idx", str(tmp_path))
    assert torch.equal(idx(tmp_path, split=1.0).train.images.view(-1, 3, 2), values[TRAIN_IMAGES].to(torch.uint8))
    (tmp_path / TRAIN_LABELS).unlink()
    refuses("holds no", name="idx", dir=str(tmp_path))  # read anew, not remembered
    fetch.read_ahead("idx", str(tmp_path))
    refuses("holds no", name="idx", dir=str(tmp_path))


def test_files_that_are_kept_are_read_once_until_others_are(tmp_path: Path) -> None:
    values = tiny(tmp_path)
    fetch.read_ahead("idx", str(tmp_path), keep=True)
    first = idx(tmp_path, split=1.0)
    for file in tmp_path.iterdir():
        file.unlink()
    fetch.read_ahead("idx", str(tmp_path), keep=True)
    again = idx(tmp_path, split=1.0).train.images
    assert torch.equal(again, first.train.images)
    assert torch.equal(again.view(-1, 3, 2), values[TRAIN_IMAGES].to(torch.uint8))
    (tmp_path / "other").mkdir()
    tiny(tmp_path / "other")
    fetch.read_ahead("idx", str(tmp_path / "other"), keep=True)
    assert len(idx(tmp_path / "other", split=1.0).train.labels)
    refuses("holds no", name="idx", dir=str(tmp_path))  # nothing but the last is kept


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
        assert torch.equal(part.labels, labels)
    assert read.classes == int(labels.max()) + 1
    assert read.names == tuple(str(c) for c in range(read.classes))


def test_raw_is_preferred_to_gz_and_other_files_are_ignored(tmp_path: Path) -> None:
    values = tiny(tmp_path)
    for name in FILES:
        (tmp_path / f"{name}.gz").write_bytes(b"not read")
        (tmp_path / f"{name}.bad").write_bytes(b"not read")
        (tmp_path / f"old-{name}").write_bytes(b"not read")
    assert torch.equal(idx(tmp_path, split=1.0).train.images, values[TRAIN_IMAGES].flatten(1).to(torch.uint8))


def test_classes_come_from_the_whole_training_file(tmp_path: Path) -> None:
    tiny(tmp_path)
    assert idx(tmp_path, limit=2, split=0.5).classes == 4


# --- refusals


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-1], "truncated"),
        (lambda content: content[:3], "truncated"),
        (lambda content: b"", "truncated"),
        (lambda content: content + b"\0", "trailing bytes"),
        (lambda content: b"\0\0\x0d" + content[3:], "wrong magic 00000d"),
        (lambda content: content[:3] + bytes([4 - content[3]]) + content[4:], "wrong magic"),
        (lambda content: content[:4] + bytes(4) + content[8 : 16 if content[3] == 3 else 8], "empty"),
    ],
)
def test_damaged_idx_is_refused(tmp_path: Path, name: str, damage, reason: str) -> None:
    values = tiny(tmp_path)
    content = write(tmp_path / name, values[name])
    (tmp_path / name).write_bytes(damage(content))
    refuses(str(tmp_path / name), reason, name="idx", dir=str(tmp_path))
    (tmp_path / name).unlink()
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(damage(content)))
    refuses(f"{name}.gz", reason, name="idx", dir=str(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "not gzip", "flipped"])
def test_corrupt_gzip_is_refused(tmp_path: Path, damage: str) -> None:
    tiny(tmp_path, suffix=".gz")
    path = tmp_path / f"{TEST_IMAGES}.gz"
    packed = bytearray(path.read_bytes())
    packed[-6] ^= 255  # in the checksum at the end
    path.write_bytes({"cut": packed[:-10], "not gzip": b"<html>", "flipped": packed}[damage])
    refuses(str(path), "cannot be read", name="idx", dir=str(tmp_path))


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named_with_its_folder(tmp_path: Path, name: str) -> None:
    tiny(tmp_path)
    (tmp_path / name).unlink()
    refuses(f"{tmp_path}: holds no {name}", "raw or .gz", name="idx", dir=str(tmp_path))


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


# --- the cache and the sources


def cached(small: Path) -> Path:
    return small.parent / "data" / "fashion-mnist"


def test_fetched_once_then_read_from_the_cache(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load()
    assert sorted(path.name for path in cached(small).iterdir()) == sorted(FILES)  # raw, and nothing else
    monkeypatch.setattr(fetch, "SOURCES", {})
    assert torch.equal(load().train.images, first.train.images)
    assert first.names == NAMES


def test_corrupt_cached_file_is_set_aside_and_fetched_again(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = load()
    path = cached(small) / TEST_IMAGES
    good = path.read_bytes()
    bad = good[:-1] + bytes([good[-1] ^ 1])
    path.write_bytes(bad)
    untouched = (cached(small) / TRAIN_IMAGES).stat().st_mtime_ns
    with caplog.at_level(logging.WARNING):
        assert torch.equal(load().test.images, first.test.images)
    assert [TEST_IMAGES in record.message for record in caplog.records] == [True]
    assert path.read_bytes() == good
    assert path.with_name(f"{TEST_IMAGES}.bad").read_bytes() == bad
    assert (cached(small) / TRAIN_IMAGES).stat().st_mtime_ns == untouched


def test_crash_while_writing_leaves_nothing_to_be_taken_for_a_file(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch.os, "fsync", crash)
        with pytest.raises(KeyboardInterrupt):
            load()
    assert list(cached(small).iterdir()) == []
    # A kill leaves no time to clean up: the part it leaves must not be taken for the file.
    (cached(small) / f"{TRAIN_IMAGES}.1.part").write_bytes(b"half")
    load()
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
        (root / "fashion-mnist").write_text("")
    for dir in (None, str(root)):
        assert len(load(dir=dir).train.images) == 16
    assert all("cannot be kept" in record.message for record in caplog.records)
    assert len(caplog.records) == 8


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_directly_in_a_named_folder_are_found(small: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(fetch, "SOURCES", {})
    folder = small.parent / "mine"
    folder.mkdir()
    values = tiny(folder, suffix=suffix)
    for _ in range(2):
        train = load(dir=str(folder), split=1.0).train
        assert torch.equal(train.images, values[TRAIN_IMAGES].flatten(1).to(torch.uint8))
    assert (folder / "fashion-mnist").is_dir() == bool(suffix)  # unpacked once; raw files need no copy


def test_wrong_checksum_in_a_named_folder_is_refused_and_left_alone(small: Path) -> None:
    folder = small.parent / "mine"
    folder.mkdir()
    values = tiny(folder)
    values[TRAIN_IMAGES][5, 0, 0] ^= 1
    write(folder / TRAIN_IMAGES, values[TRAIN_IMAGES])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    refuses(str(folder / TRAIN_IMAGES), "SHA-256", "must be", dir=str(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_sources_are_tried_in_turn_and_a_bad_one_is_passed_over(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = small.parent / "wrong"
    wrong.mkdir()
    tiny(wrong, rows=24)
    sources = {"none": lambda scratch: small / "none", "wrong": lambda scratch: wrong, **fetch.SOURCES}
    monkeypatch.setattr(fetch, "SOURCES", sources)
    assert len(load(split=1.0).train.images) == 20


def test_unreachable_everywhere_is_one_line(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(scratch: Path) -> Path:
        raise OSError("two\nlines")

    monkeypatch.setattr(fetch, "SOURCES", {"a place": lambda scratch: small / "none", "another": broken})
    refuses(str(cached(small)), "a place: ", "holds no", "another: two lines", "put its four IDX files")


def test_mirrors_that_hang_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    released = threading.Event()
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", lambda *_, **__: released.wait(60))
    monkeypatch.setattr(fetch, "PATIENCE", 0.05)
    start = time.monotonic()
    with pytest.raises(OSError, match="no answer within"):
        fetch._mirrors(tmp_path)
    released.set()
    assert time.monotonic() - start < 30


class Mirror(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def test_mirrors_are_read_by_torchvision_without_a_word(
    small: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from torchvision.datasets import FashionMNIST

    packed = [(f"{name}.gz", (small / f"{name}.gz").read_bytes()) for name in FILES]
    md5 = [(name, hashlib.md5(content, usedforsecurity=False).hexdigest()) for name, content in packed]
    monkeypatch.setattr(FashionMNIST, "resources", md5)
    monkeypatch.setattr(fetch, "SOURCES", {"mirrors": fetch._mirrors})
    handler = functools.partial(Mirror, directory=str(small))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            assert len(load(split=1.0).train.images) == 20
        finally:
            server.shutdown()
    assert capfd.readouterr() == ("", "")


def test_package_lists_are_updated_once_by_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(next(word for word in command if word in ("download", "update", "-x")))
        failed = calls == ["download"]
        return subprocess.CompletedProcess(command, 100 if failed else 0, "", "E: no such package\n")

    monkeypatch.setattr(fetch.subprocess, "run", run)
    calls: list[str] = []
    monkeypatch.setattr(fetch.os, "geteuid", lambda: 0)
    assert fetch._package(tmp_path) == tmp_path / "usr/share/datasets/fashion-mnist"
    assert calls == ["download", "update", "download", "-x"]
    calls.clear()
    monkeypatch.setattr(fetch.os, "geteuid", lambda: 1000)
    with pytest.raises(OSError, match="E: no such package"):
        fetch._package(tmp_path)
    assert calls == ["download"]


# --- splits, order, slices


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


@given(n=st.integers(0, 300), seed=st.integers(0, 2**63), epoch=st.integers(0, 10**6))
@settings(deadline=None)
def test_order_is_a_permutation_of_seed_and_epoch_alone(n: int, seed: int, epoch: int) -> None:
    state = torch.get_rng_state()
    first = order(n, seed, epoch)
    torch.manual_seed(n)
    assert torch.equal(first, order(n, seed, epoch))
    assert first.dtype == torch.int64
    assert sorted(first.tolist()) == list(range(n))
    torch.set_rng_state(state)


def test_orders_of_other_epochs_and_seeds_are_unrelated() -> None:
    orders = torch.stack([order(1000, seed, epoch) for seed in range(8) for epoch in range(8)]).double()
    correlation = torch.corrcoef(orders) - torch.eye(64)
    assert correlation.abs().max() < 0.17  # 5 standard deviations of 1/sqrt(1000)
    # (seed, epoch) and (epoch, seed) must not share an order, as a sum or a product of the two would.
    assert not torch.equal(order(50, 1, 2), order(50, 2, 1))


def test_derived_seeds_are_fixed_and_distinct() -> None:
    # A constant: a change of this function would silently change every run ever recorded.
    assert derive(0, "order", 0) == 4819849257279361181
    keys = [(seed, what, e) for seed in range(10) for what in ("a", "b") for e in range(50)]
    seeds = {derive(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(1, "1") != derive(1, 1)
    assert derive(1, "a", "b") != derive(1, "ab")


@given(n=st.integers(0, 500), batch_size=st.none() | st.integers(1, 600))
def test_slices_cover_every_row_once(n: int, batch_size: int | None) -> None:
    parts = slices(n, batch_size)
    rows = list(range(n))
    assert [row for part in parts for row in rows[part]] == rows
    size = batch_size or n
    assert all(part.stop - part.start == size for part in parts[:-1])
    assert all(0 < part.stop - part.start <= size for part in parts)
    assert len(parts) == (math.ceil(n / size) if n else 0)
