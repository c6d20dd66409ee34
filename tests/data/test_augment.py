"""Augmentations: against loops over pixels; their numbers belong to an image's place in the order of an epoch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist.config import schema
from fmnist.config.schema import load_ideas
from fmnist.data.augment import AUGMENT, DRAWS, Augmenter, augmenters
from fmnist.data.batches import Batches, order
from fmnist.data.dataset import Dataset, Split

CPU = torch.device("cpu")


def images_of(rows, height, width, seed=0):
    return torch.randint(1, 256, (rows, height, width), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def by_loop(name, images, strength, u):
    """What an augmentation does, pixel by pixel."""
    source, changed = images.numpy(), np.zeros_like(images.numpy())
    rows, height, width = source.shape
    for row in range(rows):
        if name == "shift":
            down, across = (math.floor(u[row, n] * (2 * strength + 1)) - strength for n in range(2))
        for y in range(height):
            for x in range(width):
                if name == "shift":
                    inside = 0 <= y + down < height and 0 <= x + across < width
                    changed[row, y, x] = source[row, y + down, x + across] if inside else 0
                elif name == "flip":
                    changed[row, y, x] = source[row, y, width - 1 - x if u[row, 0] < strength else x]
                else:
                    top, left = (math.floor(u[row, n] * size) - strength // 2 for n, size in enumerate((height, width)))
                    black = top <= y < top + strength and left <= x < left + strength
                    changed[row, y, x] = 0 if black else source[row, y, x]
    return torch.from_numpy(changed)


@settings(max_examples=60)
@given(
    case=st.sampled_from([("shift", s) for s in (1, 2, 9)] + [("flip", s) for s in (0.3, 1.0)]
                         + [("cutout", s) for s in (1, 2, 3, 20)]),
    rows=st.integers(1, 6), height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 1000),
)  # fmt: skip
def test_an_augmentation_is_its_loop_over_pixels(case, rows, height, width, seed):
    name, strength = case
    images, u = images_of(rows, height, width, seed), torch.rand(rows, DRAWS, generator=torch.manual_seed(seed))
    before = images.clone()
    changed = AUGMENT[name](images, float(strength), u)
    assert changed.dtype == torch.uint8
    assert torch.equal(changed, by_loop(name, images, strength, u))
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", AUGMENT)
def test_all_outcomes_are_as_likely_as_they_should_be(name):
    images, u = images_of(1, 5, 5).expand(20_000, 5, 5), torch.rand(20_000, DRAWS, generator=torch.manual_seed(0))
    changed = AUGMENT[name](images, {"shift": 1, "flip": 0.3, "cutout": 1}[name], u)
    seen, counts = changed.flatten(1).unique(dim=0, return_counts=True)
    expected = {"shift": [1 / 9] * 9, "flip": [0.3, 0.7], "cutout": [1 / 25] * 25}[name]
    assert len(seen) == len(expected)
    for count, share in zip(sorted(counts.tolist()), expected, strict=True):
        assert count / 20_000 == pytest.approx(share, abs=5 * math.sqrt(share / 20_000))


def test_no_draw_is_out_of_range():
    u = torch.tensor([[0.0] * DRAWS, [1 - 2.0**-24] * DRAWS])
    for size in range(1, 40):
        images = images_of(2, size, size)
        for name, strength in (("shift", size // 2), ("cutout", size)):
            assert torch.equal(AUGMENT[name](images, strength, u), by_loop(name, images, strength, u))


def test_names_are_those_of_the_schema_and_any_other_is_an_error():
    load_ideas()
    assert {*AUGMENT, "mixup"} == set(schema.AUGMENTATIONS)
    (made,) = augmenters({"nonsense": 1.0}, (2, 2), [0], False)
    made.start(1, 3, 1, CPU, {"nonsense": 1.0})
    with pytest.raises(KeyError, match="nonsense"):
        made.change(torch.zeros(3, 4, dtype=torch.uint8), slice(0, 3))


def numbered(rows, size=4, classes=10):
    """Images that differ; labels in turn."""
    part = Split(images_of(rows, size, size).flatten(1), torch.arange(rows) % classes)
    return Dataset(part, None, part, height=size, width=size, classes=classes, names=tuple("0123456789"))


def whole(batches, epoch):
    """All rows of an epoch in their order: pixels, labels and, of mixed images, other labels and shares."""
    parts = []
    for batch in batches.epoch(epoch):
        parts.append([batch.pixels.clone(), batch.labels.clone(), *(each.clone() for each in batch.mix or ())])
        numbers = batch.x if batch.x.dtype == torch.uint8 else (batch.x * 255).round().to(torch.uint8)
        assert torch.equal(numbers, batch.pixels)
    rows = [torch.cat([part[n] for part in parts], -2 if n == 0 else -1) for n in range(len(parts[0]))]
    return rows, [part[1].shape[-1] for part in parts]


ASKED = [
    {"shift": 2.0}, {"flip": 0.5}, {"cutout": 3.0}, {"mixup": 0.4}, {"shift": 1.0, "flip": 0.5, "cutout": 2.0},
    {"shift": 1.0, "flip": 0.5, "cutout": 2.0, "mixup": 1.0},
]  # fmt: skip


@pytest.mark.parametrize("asked", ASKED, ids=str)
@pytest.mark.parametrize("batch_size", [None, 7, 50])
def test_an_epoch_is_each_image_changed_by_the_numbers_of_its_place(asked, batch_size):
    data, seed, epoch = numbered(60), 3, 2
    (pixels, labels, *mix), sizes = whole(Batches(data, batch_size, [seed], torch.uint8, asked), epoch)
    index = torch.arange(60) if batch_size is None else order(60, seed, epoch)
    augmenter = Augmenter((4, 4), seed)
    augmenter.start(epoch, 60, len(sizes), CPU, asked)
    expected = data.train.images[index].view(-1, 4, 4)
    for name, strength in asked.items():
        if name != "mixup":
            expected = by_loop(name, expected, strength if name == "flip" else int(strength), augmenter.drawn[name])
    expected = expected.flatten(1)
    assert torch.equal(labels, data.train.labels[index])
    if "mixup" not in asked:
        assert not mix
        assert torch.equal(pixels, expected)
        return
    start = 0
    for number, size in enumerate(sizes):
        own, place = float(augmenter.shares[number]), slice(start, start + size)
        assert 0.5 <= own <= 1
        assert mix[1][place].eq(augmenter.shares[number]).all()  # one share in a batch
        partner = [start + (row - 1) % size for row in range(size)]
        assert torch.equal(mix[0][place], labels[partner])
        exact = own * expected[place].double() + (1 - own) * expected[partner].double()
        assert (pixels[place].double() - exact).abs().max() <= 1.5  # the share in 256ths, and whole grey levels
        start += size


@pytest.mark.parametrize("asked", ASKED, ids=str)
@pytest.mark.parametrize("gathered", [1, 30, 4096])
def test_how_many_rows_are_gathered_at_a_time_changes_nothing(monkeypatch, asked, gathered):
    expected = whole(Batches(numbered(100), 8, [3, 4], torch.float64, asked), 1)
    monkeypatch.setattr("fmnist.data.batches.GATHERED", gathered)
    for dtype in (torch.float64, torch.uint8):
        found = whole(Batches(numbered(100), 8, [3, 4], dtype, asked), 1)
        assert found[1] == expected[1]
        assert all(map(torch.equal, found[0], expected[0]))


@pytest.mark.parametrize("asked", [each for each in ASKED if "mixup" not in each], ids=str)
def test_the_size_of_a_batch_changes_no_image(asked):
    few, many = (whole(Batches(numbered(100), size, [3], torch.uint8, asked), 1)[0] for size in (8, 64))
    assert all(map(torch.equal, few, many))


@pytest.mark.parametrize("asked", ASKED, ids=str)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_runs_with_orders_of_their_own_are_their_solos(asked, batch_size):
    seeds = [5, 6, 5]
    together, sizes = whole(Batches(numbered(100), batch_size, seeds, torch.uint8, asked), 3)
    for run, seed in enumerate(seeds):
        alone, of_one = whole(Batches(numbered(100), batch_size, [seed], torch.uint8, asked), 3)
        assert of_one == sizes
        assert all(torch.equal(both[run], one) for both, one in zip(together, alone, strict=True))
    assert torch.equal(together[0][0], together[0][2])
    assert not torch.equal(together[0][0], together[0][1])
    shared, _ = whole(Batches(numbered(100), batch_size, [5, 5, 5], torch.uint8, asked), 3)
    assert shared[0].dim() == 2  # one gather serves all


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_an_epoch_is_a_function_of_order_seed_and_epoch_alone(asked):
    batches = Batches(numbered(100), None, [3], torch.uint8, asked)
    first, second = (whole(batches, epoch)[0] for epoch in (1, 2))
    torch.manual_seed(9)
    state = torch.get_rng_state()
    again = whole(Batches(numbered(100), None, [3], torch.uint8, asked), 2)[0]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, again, second))
    other = whole(Batches(numbered(100), None, [4], torch.uint8, asked), 2)[0]
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(other[0], second[0])


def test_augmentations_of_one_epoch_draw_numbers_of_their_own():
    augmenter = Augmenter((4, 4), 3)
    augmenter.start(1, 500, 1, CPU, {"shift": 1.0, "flip": 0.5, "cutout": 2.0})
    drawn = torch.cat([*augmenter.drawn.values()], 1).T
    assert (torch.corrcoef(drawn) - torch.eye(len(drawn))).abs().max() < 5 / math.sqrt(500)


@pytest.mark.parametrize("off", [{}, {"shift": None, "flip": 0.0, "cutout": None, "mixup": 0.0}], ids=str)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_no_strength_is_off(off, batch_size):
    assert augmenters(off, (4, 4), [0], False) == []
    plain, found = (Batches(numbered(30), batch_size, [1], torch.uint8, asked) for asked in (None, off))
    (pixels, labels), _ = whole(found, 1)
    assert torch.equal(pixels, whole(plain, 1)[0][0])
    assert torch.equal(labels, whole(plain, 1)[0][1])
    assert all(batch.mix is None for batch in found.epoch(1))


@pytest.mark.parametrize("batch_size", [None, 8])
def test_an_epoch_may_have_strengths_of_its_own_and_none(batch_size):
    """Where images are mixed in no epoch, but have been in others, each is mixed with nothing."""
    strong = {"shift": 2.0, "cutout": 3.0, "mixup": 0.5}
    changing = Batches(numbered(30), batch_size, [1], torch.uint8, strong)
    for now in ({"shift": 1.0, "mixup": 0.1}, {}, {"cutout": 3.0}, strong):
        constant = Batches(numbered(30), batch_size, [1], torch.uint8, now)
        pixels, labels, *mix = (torch.cat(parts, -2 if n == 0 else -1) for n, parts in enumerate(zip(*[
            [batch.pixels.clone(), batch.labels.clone(), *(each.clone() for each in batch.mix)]
            for batch in changing.epoch(1, now)], strict=True)))  # fmt: skip
        expected, _ = whole(constant, 1)
        assert torch.equal(pixels, expected[0])
        assert torch.equal(labels, expected[1])
        if now.get("mixup"):
            assert torch.equal(mix[1], expected[3])
        else:
            assert (mix[1] == 1).all()


@pytest.mark.parametrize(("alpha", "mean"), [(1.0, 0.75), (0.2, 0.899), (0.001, 0.9993), (50.0, 0.54), (1e4, 0.5028)])
def test_shares_are_drawn_from_beta(alpha, mean):
    """Their larger parts: of Beta(1, 1) the mean is 3/4; little alpha mixes hardly at all, a large one by halves."""
    augmenter = Augmenter((4, 4), 3)
    augmenter.start(1, 4000, 4000, CPU, {"mixup": alpha})
    assert float(augmenter.shares.mean()) == pytest.approx(mean, abs=0.015)


def test_each_row_is_mixed_with_another_of_its_batch_and_a_row_alone_with_itself():
    (pixels, labels, other, share), sizes = whole(Batches(numbered(9), 8, [0], torch.uint8, {"mixup": 1.0}), 1)
    assert sizes == [8, 1]
    assert torch.equal(other[:8], labels[:8].roll(1))
    assert other[8] == labels[8]
    assert torch.equal(pixels[8], numbered(9).train.images[order(9, 0, 1)[8]])
    assert share.dtype == torch.float32
