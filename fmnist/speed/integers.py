"""Products of a float32 matrix with 8-bit images, by integer arithmetic: float32's accuracy at the speed of int8.

An image's grey levels are whole numbers, and 8-bit ones fit an int8 operand exactly. A row of the other matrix is
written as whole multiples of its largest element / 8,355,000, which is how finely float32 resolves that element; such a
number is three signed 8-bit digits in base 256. So one float32 product becomes three int8 ones, whose int32 sums are
exact. Processors with AMX do 16 int8 multiplications in the time of a float32 one; the work is done in integers.c.
"""

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fmnist.nn.layers import product_with_images
from fmnist.speed.native import evaluated, isa, load

LARGEST = 8_355_000.0  # the three digits reach 127 * (65,536 + 256 + 1) = 8,355,711
LEAST = 1e-30  # stands for the largest element of a row of zeros


class _Memory:
    """A tensor as the address of its memory."""

    @classmethod
    def from_param(cls, tensor: Tensor | None) -> ctypes.c_void_p:
        return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


@functools.cache
def library() -> Any:
    """The compiled integers.c; None where it was not compiled, or the processor lacks what it needs."""
    if isa():
        return None
    compiled = load("_integers")
    if compiled is None or not compiled.usable():
        return None
    memory: Any = _Memory
    long, number = ctypes.c_long, ctypes.c_float
    compiled.product.argtypes = [*[memory] * 5, *[long] * 7, *[ctypes.c_int] * 2, number, number]
    return compiled


class Digits:
    """Room for the digits of matrices (runs, n, m) float32: those of a run for each thread, which then stay in the
    caches, or those of all runs if they are to be kept for further products."""

    def __init__(self, shape: Sequence[int], new: Callable[..., Tensor], keep: bool = False) -> None:
        """shape: (runs, n, m). new(size, dtype=...) makes a buffer."""
        self.shape = shape
        runs, n, m = shape
        self.rooms = runs if keep else min(runs, torch.get_num_threads())
        self.tiles = new(self.rooms * math.ceil(n / 16) * math.ceil(m / 64) * 3 * 1024, dtype=torch.int8)
        self.units = new(self.rooms * n, dtype=torch.float32)

    def multiply(self, a: Tensor | None, pixels: Tensor, out: Tensor, along_pixels: bool, add: bool) -> None:
        """out = a @ pixels / 255, or out += that; contiguous (runs, n, columns).

        a: (runs, n, m), contiguous, or None for the one whose digits were kept. pixels: uint8 (images, pixels), which
        all runs share, or (runs, images, pixels), the pixels of an image contiguous; the product sums over the pixels
        of each image, or else over the images.
        """
        columns = pixels.shape[-2] if along_pixels else pixels.shape[-1]
        run_step = pixels.stride(0) if pixels.dim() == 3 else 0
        compiled: Any = library()
        if not compiled.product(
            a, self.tiles, self.units, pixels, out, *self.shape, columns, run_step, pixels.stride(-2), self.rooms,
            along_pixels, add, LARGEST, LEAST,
        ):  # fmt: skip
            raise MemoryError("not enough memory for a product with images")


def _multiply(a: Tensor, *given: Any, **more: Any) -> None:
    Digits(a.shape, torch.empty).multiply(a, *given, **more)


def product(a: Tensor, images: Tensor) -> Tensor:
    """See `native.evaluated`. By whole grey levels."""
    return product_with_images(a, images) if library() is None else evaluated(_multiply, a, images)
