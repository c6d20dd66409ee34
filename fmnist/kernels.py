"""Which kernels matrix products use here: decided by a probe of error and speed, never by processor name."""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from fmnist import integers
from fmnist.data import as_input, as_levels

log = logging.getLogger("train")

FLOAT32_ERROR = 1e-5  # largest error, relative to the largest element, that still is float32 arithmetic
THIN = 1_300_000  # multiply-adds of a product below which the plain path wins: its calls cost less


@dataclass(frozen=True)
class Kernels:
    """wide, thin: what torch.set_float32_matmul_precision is set to for large and for small products; cast: operands
    are rounded to bfloat16 by us; integers: products with images use their whole grey levels, see fmnist.integers."""

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
    exact = error <= FLOAT32_ERROR
    if precision == "float32":
        wide = ["highest", "medium"] if exact else ["highest"]
        integers_up = _probe_integers(device) if rows >= integers.ROWS else 0.0
        serving = [Kernels(wide=w, integers=i) for i in ([False, True] if integers_up else [False]) for w in wide]
        chosen = Kernels(wide="medium" if exact and speed_up > 1.05 else "highest", integers=integers_up > 1.1)
    else:
        serving = [Kernels(cast=True)] if exact else [Kernels(cast=True), Kernels(wide="medium", thin="medium")]
        chosen = serving[-1] if speed_up >= cast_up else serving[0]
        integers_up = 0.0
    if before in serving:
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
def _probe_integers(device: torch.device) -> float:
    """The speed of products with images by integers relative to those in float32; 0 where they are not to be had, or
    not as exact as float32."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(200, 784, generator=generator).to(device)
    images = torch.randint(0, 256, (2000, 784), generator=generator, dtype=torch.uint8).to(device)
    x, levels = as_input(images, torch.float32), as_levels(images.clone())
    out = torch.empty(200, 2000, device=device)
    once, do = integers.AtOnce(device), integers.AtOnce(device)
    try:
        digits = integers.record_digits(once, weights, once.new)
        integers.record_product(do, digits, levels.mT, out, add=False)
    except (RuntimeError, NotImplementedError, AttributeError):  # torch has no such product here
        return 0.0
    some = slice(0, 100)
    exact = weights.double() @ (images[some].double() / 255).mT
    if float((out[:, some] - exact).abs().max() / exact.abs().max()) > FLOAT32_ERROR:
        return 0.0

    return _seconds(lambda: torch.mm(weights, x.mT, out=out), device) / _seconds(do.again, device)


def _seconds(product: Callable[[], object], device: torch.device) -> float:
    taken = []
    for _ in range(5):
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
