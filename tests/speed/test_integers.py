"""Products with images by whole grey levels: as exact as float32, whatever the rows hold."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmnist.nn.layers import Linear
from fmnist.speed import integers
from fmnist.speed.kernels import choose

CPU = torch.device("cpu")
compiled = pytest.mark.skipif(integers.library() is None, reason="the processor has no AMX")


def by_integers(a, images, transposed, out=None):
    """a @ images / 255, or with the images transposed; added to out if it is given."""
    product = torch.empty(len(a), images.shape[0 if transposed else 1]) if out is None else out
    digits = integers.Digits((1, *a.shape), torch.empty)
    digits.multiply(a[None], images, product[None], along_pixels=transposed, add=out is not None)
    return product


def drawn(seed, n, m, k):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, m, generator=generator) * torch.rand(n, 1, generator=generator).pow(6)
    return a, torch.randint(0, 256, (m, k), generator=generator, dtype=torch.uint8)


@compiled
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 900), st.integers(1, 50), st.floats(-30, 6))
def test_products_are_exact_to_the_rounding_of_float32(seed, n, m, k, power):
    a, images = drawn(seed, n, m, k)
    a = a * 10**power
    exact = a.double() @ (images.double() / 255)
    bound = (a.double().abs().amax(-1, keepdim=True) * images.double().sum(0) / 255) * 2**-23 + exact.abs() * 2**-21
    # half a unit of the last digit for each grey level; a few roundings at the end
    assert ((by_integers(a, images, False) - exact).abs() <= bound + 1e-33).all()
    assert torch.equal(by_integers(a, images.mT.contiguous(), True), by_integers(a, images, False))


@compiled
def test_adding():
    a, images = drawn(0, 30, 784, 50)
    product = by_integers(a, images, False)
    start = torch.ones_like(product)
    torch.testing.assert_close(by_integers(a, images, False, start.clone()), start + product, rtol=1e-6, atol=1e-5)


@compiled
@pytest.mark.parametrize("transposed", [True, False])
def test_sums_longer_than_an_int32_holds(transposed):
    n = 70_000
    a, images = torch.ones(2, n), torch.full((3, n) if transposed else (n, 3), 255, dtype=torch.uint8)
    a[1] = torch.linspace(-1, 1, n).roll(7)
    exact = (a.double().sum(-1, keepdim=True)).expand(2, 3)
    torch.testing.assert_close(by_integers(a, images, transposed).double(), exact, rtol=1e-6, atol=0.02)


@compiled
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("along_pixels", [False, True])
def test_runs_are_what_each_is_alone(threads, keep, shared, along_pixels):
    """Whatever the number of threads, with pixels of each run's own or of all, with rows between those of the runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        generator = torch.Generator().manual_seed(4)
        images = torch.randint(0, 256, (3, 90, 100), generator=generator, dtype=torch.uint8)[:, :77]
        pixels = images[0] if shared else images
        depth, columns = (100, 77) if along_pixels else (77, 100)
        a, out = torch.randn(3, 21, depth, generator=generator), torch.empty(3, 21, columns)
        digits = integers.Digits(a.shape, torch.empty, keep)
        digits.multiply(a, pixels, out, along_pixels, False)
        for run in range(3):
            alone = by_integers(a[run], images[0 if shared else run].contiguous(), along_pixels)
            assert torch.equal(out[run], alone)
        if keep:
            again = torch.empty_like(out)
            digits.multiply(None, pixels, again, along_pixels, False)
            assert torch.equal(again, out)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("runs", [(), (2,), (2, 3)])
@pytest.mark.parametrize("shared", [False, True])
def test_a_layer_takes_images_as_they_are(dtype, runs, shared, device):
    layer = Linear(50, 20, runs, dtype=dtype, device=device)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    images = torch.randint(0, 256, (*(() if shared else runs), 9, 50), dtype=torch.uint8, device=device)
    expected = layer(images.to(dtype) / 255)
    torch.testing.assert_close(layer(images), expected)
    assert layer(images).requires_grad
    with torch.no_grad():
        torch.testing.assert_close(layer(images), expected.detach(), rtol=1e-5, atol=1e-5)


@compiled
def test_black_pixels_have_no_gradient_at_all():
    a, images = drawn(1, 20, 300, 60)
    images[:, ::3] = 0
    assert (by_integers(a, images, False)[:, ::3] == 0).all()
    assert (by_integers(torch.zeros_like(a), images, False) == 0).all()


@compiled
@pytest.mark.parametrize("strange", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_so_in_its_row_and_nowhere_else(strange):
    a, images = drawn(2, 4, 100, 5)
    a[2, 7] = strange
    finite = by_integers(a, images, False).isfinite()
    assert finite.all(-1).tolist() == [True, True, False, True]


def test_it_is_compiled_where_the_processor_has_what_it_needs():
    """Also the test of the installation, which goes on without a compiler."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    needed = ("amx_tile", "amx_int8", "avx512bw", "avx512vl", "avx512_vbmi")
    hidden = os.environ.get("FMNIST_ISA") == "avx2"
    assert (integers.library() is not None) == (all(flag in flags for flag in needed) and not hidden)


@pytest.mark.parametrize("lacking", ["compiled", "loadable"])
def test_without_it_products_are_those_of_float32(monkeypatch, tmp_path, lacking):
    other = tmp_path / "other.so"
    other.write_text("no library")
    spec = SimpleNamespace(origin=str(other)) if lacking == "loadable" else None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert integers.library.__wrapped__() is None
    monkeypatch.setattr(integers, "library", lambda: None)
    assert not choose(CPU, "float32", 128).integers
    a, images = drawn(5, 4, 30, 6)
    product = integers.product(a, images.mT)
    torch.testing.assert_close(product, a @ (images / 255))
