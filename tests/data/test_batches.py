"""fmnist.data.batches: the order of an epoch and the slices of its batches, as properties."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from fmnist.data.batches import order, slices
from fmnist.data.dataset import derive


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


@given(n=st.integers(0, 500), batch_size=st.none() | st.integers(1, 600))
def test_slices_cover_every_row_once(n: int, batch_size: int | None) -> None:
    found = slices(n, batch_size)
    rows = list(range(n))
    assert [row for one in found for row in rows[one]] == rows
    size = batch_size or n
    assert all(one.stop - one.start == size for one in found[:-1])
    assert all(0 < one.stop - one.start <= size for one in found)
    assert len(found) == (math.ceil(n / size) if n else 0)
