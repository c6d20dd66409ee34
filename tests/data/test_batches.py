"""fmnist.data.batches: the order of an epoch and its batches, as properties."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist.data.batches import Batches, order
from fmnist.data.dataset import Dataset, Split, derive


@given(n=st.integers(0, 300), seed=st.integers(0, 2**63), epoch=st.integers(0, 10**6))
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


def numbered(rows: int) -> Dataset:
    """A data set whose training images are the numbers of their rows, in two pixels; labels are their last digits."""
    numbers = torch.arange(rows)
    part = Split(torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8), numbers % 10)
    return Dataset(part, None, part, height=1, width=2, classes=10, names=tuple("0123456789"))


@settings(max_examples=50)
@given(
    rows=st.integers(1, 1500), batch_size=st.none() | st.integers(1, 1600), epoch=st.integers(1, 3),
    order_seeds=st.sampled_from([[0], [3, 3, 3], [0, 1, 2]]), dtype=st.sampled_from([torch.uint8, torch.float32]),
)  # fmt: skip
def test_an_epoch_has_every_row_once_in_the_order_of_its_seed(
    rows: int, batch_size: int | None, epoch: int, order_seeds: list[int], dtype: torch.dtype
) -> None:
    batches = Batches(numbered(rows), batch_size, order_seeds, dtype)
    orders = [torch.arange(rows) if batch_size is None else order(rows, seed, epoch) for seed in order_seeds]
    apart = batch_size is not None and len(set(order_seeds)) > 1
    expected = torch.stack(orders) if apart else orders[0]
    found, sizes = [], []
    for batch in batches.epoch(epoch):
        numbers = batch.pixels[..., 0].long() * 256 + batch.pixels[..., 1]
        assert torch.equal(batch.labels, numbers % 10)
        assert batch.x.dtype == dtype
        assert torch.equal(
            (batch.x.double() * (1 if dtype == torch.uint8 else 255)).round().long(), batch.pixels.long()
        )
        found.append(numbers.clone())  # the next batch is written over this one
        sizes.append(numbers.shape[-1])
    assert torch.equal(torch.cat(found, -1), expected)
    size = min(batch_size or rows, rows)
    assert sizes == [size] * (rows // size) + [rows % size] * (rows % size > 0)
