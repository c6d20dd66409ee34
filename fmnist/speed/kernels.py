"""Which kernels matrix products use here: decided by a probe of error and speed, never by processor name."""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from fmnist.data.dataset import as_input
from fmnist.speed import integers

log = logging.getLogger("train")

FLOAT32_ERROR = 1e-5  # largest error, relative to the largest element, that still is float32 arithmetic
THIN = 1_300_000  # multiply-adds of a product below which the plain path wins: its calls cost less


@dataclass(frozen=True)
class Kernels:
    """wide, thin: what torch.set_float32_matmul_precision is set to for large and for small products; cast: operands
    are rounded to bfloat16 by us; integers: products with images use their whole grey levels, see fmnist.speed.integers."""

    wide: str = "highest"
    thin: str = "highest"
    cast: bool = False
    integers: bool = False


def choose(device: torch.device, precision: str, rows: int, before: Kernels | None = None) -> Kernels:
    """The kernels for a precision on a device, with batches of so many rows.

    before: those a run began with. They are kept if they serve here too, so that a run that goes on is not at the mercy
    of a second measurement.

    "medium" lets torch use another library for float32 products. Where that library computes in float32 it can be
    twice as fast; where it rounds to bfloat16 it is a fast way to precision=bfloat16, and not taken otherwise.
    """
    if precision == "float64" or (device.type == "cuda" and precision == "float32"):
        return Kernels()
    error, speed_up, cast_up = _probe(device)
    integers_up = _probe_integers(device, min(rows, 2000))
    exact = error <= FLOAT32_ERROR
    if precision == "float32":
        serving = [Kernels(), *([Kernels(wide="medium")] if exact else [])]
        other = exact and speed_up > 1.05
    else:
        serving = [Kernels(cast=True), *([] if exact else [Kernels(wide="medium", thin="medium")])]
        other = speed_up >= cast_up
    chosen = replace(serving[-1] if other else serving[0], integers=integers_up > 1)
    if before and replace(before, integers=False) in serving and (integers_up or not before.integers):
        chosen = before
    log.debug(
        f"{precision} on {device}: error {error:.0e}, speed-up {speed_up:.2f}, with casts {cast_up:.2f}, by integers "
        f"{integers_up:.2f}: {chosen}"
    )
    return chosen


@functools.cache
def _probe(device: torch.device) -> tuple[float, float, float]:
    """The relative error of "medium", its speed and that of bfloat16 with casts, relative to "highest"."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(384, 384, generator=generator).to(device) for _ in range(2))
    out = torch.empty_like(a)
    exact = a.double() @ b.double()
    with float32_products("medium"):
        error = float(((a @ b) - exact).abs().max() / exact.abs().max())
        medium = _seconds(lambda: torch.mm(a, b, out=out), device)
    with float32_products("highest"):
        plain = _seconds(lambda: torch.mm(a, b, out=out), device)
    cast = _seconds(lambda: out.copy_(a.bfloat16() @ b.bfloat16()), device)
    return error, plain / medium, plain / cast


@functools.cache
def _probe_integers(device: torch.device, rows: int) -> float:
    """The speed of a layer's two products with so many images by integers relative to those in float32, which need the
    images as such; 0 where they are not to be had, or not as exact as float32."""
    if device.type != "cpu" or integers.library() is None:
        return 0.0
    generator = torch.Generator().manual_seed(0)
    weights, slopes = torch.randn(1, 200, 784, generator=generator), torch.randn(1, 200, rows, generator=generator)
    images = torch.randint(0, 256, (rows, 784), generator=generator, dtype=torch.uint8)
    x, y, gradient = as_input(images, torch.float32), torch.empty(1, 200, rows), torch.empty(1, 200, 784)
    digits, digits_of_slopes = (integers.Digits(each.shape, torch.empty) for each in (weights, slopes))

    def by_integers() -> None:
        digits.multiply(weights, images, y, along_pixels=True, add=False)
        digits_of_slopes.multiply(slopes, images, gradient, along_pixels=False, add=False)

    def in_float32() -> None:
        x.copy_(images).div_(255)
        torch.mm(weights[0], x.mT, out=y[0])
        torch.mm(slopes[0], x, out=gradient[0])

    fast = _seconds(by_integers, device)
    some, exact = slice(0, 50), images.double() / 255
    of_y = y[0, :, some], weights[0].double() @ exact[some].mT
    of_gradient = gradient[0, some], slopes[0, some].double() @ exact
    for product, truth in (of_y, of_gradient):
        if float((product - truth).abs().max() / truth.abs().max()) > FLOAT32_ERROR:
            return 0.0
    return _seconds(in_float32, device) / fast


def _seconds(product: Callable[[], object], device: torch.device) -> float:
    """The shortest of five times, of more where they are short: others may be at work beside us."""
    taken: list[float] = []
    while len(taken) < 5 or (sum(taken) < 3e-3 and len(taken) < 50):
        start = time.perf_counter()
        product()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return min(taken)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers below 1e-38 count as zero for a while. Moments of weights whose pixel is always black decay into such
    denormal numbers, on which processors compute up to 25 times slower.

    Threads inherit the setting when they start: enter before the first parallel operation of the process.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def float32_products(setting: str) -> Iterator[None]:
    """torch.set_float32_matmul_precision for a while; it is put back whatever happens."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
