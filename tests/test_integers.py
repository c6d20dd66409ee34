"""Products with images by whole grey levels: as exact as float32, whatever the rows hold."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmnist import data, integers
from fmnist.kernels import Kernels, _probe_integers, choose

CPU = torch.device("cpu")


def by_integers(a, images, transposed, out=None):
    """a @ images / 255, or with the images transposed; added to out if it is given."""
    do = integers.AtOnce(CPU)
    levels = data.as_levels(images.clone())
    right = levels.mT if transposed else levels
    product = torch.empty(len(a), right.shape[-1]) if out is None else out
    integers.record_product(do, integers.record_digits(do, a, do.new), right, product, add=out is not None)
    return product


def drawn(seed, n, m, k):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, m, generator=generator) * torch.rand(n, 1, generator=generator).pow(6)
    return a, torch.randint(0, 256, (m, k), generator=generator, dtype=torch.uint8)


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 900), st.integers(1, 50), st.floats(-30, 6))
def test_products_are_exact_to_the_rounding_of_float32(seed, n, m, k, power):
    a, images = drawn(seed, n, m, k)
    a = a * 10**power
    exact = a.double() @ (images.double() / 255)
    bound = (a.double().abs().amax(-1, keepdim=True) * images.double().sum(0) / 255) * 2**-23 + exact.abs() * 2**-21
    # half a unit of the last digit for each grey level; a few roundings at the end, which the offset of 128 magnifies
    offset = 128 / 255 * a.double().sum(-1, keepdim=True).abs() * 2**-21
    assert ((by_integers(a, images, False) - exact).abs() <= bound + offset + 1e-33).all()


def test_both_sides_and_adding():
    a, images = drawn(0, 30, 784, 50)
    product = by_integers(a, images, False)
    torch.testing.assert_close(by_integers(a, images.mT.contiguous(), True), product, rtol=0, atol=0)
    start = torch.ones_like(product)
    torch.testing.assert_close(by_integers(a, images, False, start.clone()), start + product, rtol=1e-6, atol=1e-5)


def test_black_pixels_have_no_gradient_at_all():
    a, images = drawn(1, 20, 300, 60)
    images[:, ::3] = 0
    assert (by_integers(a, images, False)[:, ::3] == 0).all()
    assert (by_integers(torch.zeros_like(a), images, False) == 0).all()


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_so_in_its_row_and_nowhere_else(strange):
    a, images = drawn(2, 4, 100, 5)
    a[2, 7] = strange
    finite = by_integers(a, images, False).isfinite()
    assert finite.all(-1).tolist() == [True, True, False, True]


def test_the_probe_decides(monkeypatch):
    for speed_up, wanted in ((0.0, False), (0.7, False), (2.0, True)):
        monkeypatch.setattr("fmnist.kernels._probe_integers", lambda device, speed_up=speed_up: speed_up)
        assert choose(CPU, "float32", 6000).integers == wanted
        assert not choose(CPU, "float32", 128).integers  # too few rows to pay for the weights' digits
        assert not choose(CPU, "float64", 6000).integers
        assert not choose(CPU, "bfloat16", 6000).integers
        before = choose(CPU, "float32", 6000, Kernels(integers=True))
        assert before.integers == (speed_up > 0)  # a run goes on with what it began with, where it can


def test_a_torch_without_them_is_no_error(monkeypatch):
    def missing(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(torch, "_int_mm", missing)
    assert _probe_integers.__wrapped__(CPU) == 0.0
