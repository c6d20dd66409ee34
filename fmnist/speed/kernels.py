"""Which kernels do the work here: decided by what the processor can do, by exactness and by fixed rules.

Nothing is timed: two runs of one config on one machine use the same kernels, whatever else the machine is doing.
FMNIST_ISA=avx2 or avx512 hides what a better processor has, as ATEN_CPU_CAPABILITY=avx2 does for torch.
"""

import functools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fmnist.speed import integers, native

LIMITS = ("FMNIST_ISA", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")  # hide what a better processor has
FLOAT32_ERROR = 1e-5  # largest error, relative to the largest element, that still is float32 arithmetic
THIN = 1_300_000  # multiply-adds of a product below which the plain path is faster: its calls cost less
ROWS = 32  # of a batch; with as many or more, whole grey levels are faster
BLACK = 0.3  # share of black pixels; with as many or more, skipping them is faster

# Where memory is short torch says so in this way too, and then raises an error, which is told.
warnings.filterwarnings("ignore", "mkldnn_matmul failed")


@dataclass(frozen=True)
class Kernels:
    """wide, thin: what torch.set_float32_matmul_precision is set to for large and for small products; integers:
    products with images use their whole grey levels, see fmnist.speed.integers; black: products with images skip black
    pixels, see native/images.c; programs: the native library does what it knows, see fmnist.speed.programs."""

    wide: str = "highest"
    thin: str = "highest"
    integers: bool = False
    black: bool = False
    programs: bool = False

    @property
    def of_pixels(self) -> bool:
        """Whether products with images take their pixels."""
        return self.integers or self.black


def black_share(images: Tensor) -> float:
    """The share of black pixels of 8-bit images (n, pixels), from the first 1,000."""
    return float((images[:1000] == 0).double().mean())


def serving(device: torch.device, precision: str, rows: int, black: float) -> list[Kernels]:
    """All kernels by which a tape can compute in this precision here, the best first. The batches have so many rows,
    and this share of their pixels is black.

    "medium" lets torch use oneDNN for float32 products. Where that computes in float32, it is twice as fast as the
    plain path on AMD's processors with AVX-512, and as fast elsewhere. Where it rounds to bfloat16 (AMX) it is
    precision=bfloat16. [] leaves the precision to autograd.
    """
    able = device.type == "cpu" and precision != "float64" and native.isa() != "avx2"
    exact = able and medium_error() <= FLOAT32_ERROR
    if precision == "bfloat16":
        found = [Kernels("medium", "medium")] if able and not exact else []
    else:
        wide = exact and torch.backends.cpu.get_cpu_capability() == "AVX512"
        found = [*([Kernels(wide="medium")] if wide else []), Kernels()]
    compiled = device.type == "cpu" and precision == "float32" and native.library() is not None
    if compiled:
        found = [replace(each, programs=programs) for programs in (True, False) for each in found]
    whole = [replace(each, integers=True) for each in found] if able and rows >= ROWS and integers.library() else []
    skipping = [replace(each, black=True) for each in found] if compiled and black >= BLACK else []
    return [*whole, *skipping, *found]


def choose(
    device: torch.device, precision: str, rows: int, black: float = 0.0, before: Kernels | None = None
) -> Kernels | None:
    """The kernels for a precision on a device; None: the precision is left to autograd. See `serving`.

    before: those that a run began with. It goes on with them if they serve here too.
    """
    found = serving(device, precision, rows, black)
    return before if before in found else found[0] if found else None


def machine(device: torch.device) -> dict[str, Any]:
    """What of this machine decides the bits of a run, beside its kernels: how sums are grouped, and by what code torch,
    its libraries and ours add them."""
    asked = {name: os.environ[name] for name in LIMITS if os.environ.get(name)}
    known = {"processor": native.processor(), "threads": torch.get_num_threads()}
    graphics = {"device": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {**known, "instructions": torch.backends.cpu.get_cpu_capability(), **asked, **graphics}


def bfloat16_is_emulated(device: torch.device) -> bool:
    """Whether products in bfloat16 take many times as long as in float32: 70 to 100 times, measured with AVX2 alone."""
    return device.type == "cpu" and (native.isa() == "avx2" or not torch.cpu._is_avx512_bf16_supported())


@functools.cache
def medium_error() -> float:
    """The error of float32 products under "medium", relative to the largest element."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(384, 384, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    with float32_products("medium"):
        return float(((a @ b) - exact).abs().max() / exact.abs().max())


@contextmanager
def float32_products(setting: str) -> Iterator[None]:
    """Within it torch.set_float32_matmul_precision is set; then it is put back, whatever happens."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
