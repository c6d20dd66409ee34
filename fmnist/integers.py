"""Products of a float32 matrix with 8-bit images, by integer arithmetic: float32's accuracy at the speed of int8.

An image's grey levels are whole numbers, and 8-bit ones fit an int8 operand exactly. A row of the other matrix is
written as whole multiples of its largest element / 8,355,000, which is how finely float32 resolves that element; such a
number is three signed 8-bit digits in base 256. So one float32 product becomes three int8 ones, whose int32 sums are
exact. Processors with int8 units (VNNI, AMX) do 4 to 16 int8 multiplications in the time of a float32 one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

LARGEST = 8_355_000.0  # the three digits reach 127 * (65,536 + 256 + 1) = 8,355,711
HALF = 0x8080  # added and then xor-ed, it turns the two lower bytes of a whole number into signed digits
LEAST = 1e-30  # stands for the largest element of a row of zeros
ROWS = 512  # of a batch, from which on the digits of the weights are worth making


class Do(Protocol):
    """What a Tape does: it takes an operation, and hands out buffers."""

    def __call__(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None: ...

    def new(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor: ...


class AtOnce:
    """Does at once what is recorded, and does it `again` in the same buffers."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.done: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        f(*args, **kwargs)
        self.done.append((f, args, kwargs))

    def again(self) -> None:
        for f, args, kwargs in self.done:
            f(*args, **kwargs)

    def new(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.empty(shape, dtype=dtype or torch.float32, device=self.device)


@dataclass
class Digits:
    """A matrix (n, m): its digits (3, n, m) int8, least first; unit (n, 1), what a whole number in a row stands for;
    sums (n, 1), of a row's whole numbers."""

    digits: Tensor
    unit: Tensor
    sums: Tensor


def record_digits(do: Do, a: Tensor, new: Callable[..., Tensor]) -> Digits:
    """Record how a (n, m) float32 is split into digits; new makes the buffers."""
    n, m = a.shape
    scaled, whole = new(n * m).view(n, m), new(n * m, dtype=torch.int32).view(n, m)
    digits = new(3 * n * m, dtype=torch.int8).view(3, n, m)
    unit, inverse = new(n).view(n, 1), new(n).view(n, 1)
    counted, sums = new(3 * n, dtype=torch.int32).view(3 * n, 1), new(3 * n).view(3, n, 1)
    ones = torch.ones(m, 1, dtype=torch.int8, device=a.device)
    do(torch.abs, a, out=scaled)
    do(torch.amax, scaled, -1, keepdim=True, out=unit)
    do(unit.clamp_min_, LEAST)
    do(unit.div_, LARGEST)
    do(torch.reciprocal, unit, out=inverse)
    do(torch.mul, a, inverse, out=scaled)
    do(scaled.round_)
    do(whole.copy_, scaled)
    do(whole.add_, HALF)
    do(whole.bitwise_xor_, HALF)
    do(digits.copy_, whole.view(torch.int8).view(n, m, 4)[..., :3].permute(2, 0, 1))
    do(torch._int_mm, digits.view(3 * n, m), ones, out=counted)  # five times as fast as a sum
    do(sums.copy_, counted.view(sums.shape))
    return Digits(digits, unit, _together(do, sums))


def record_product(do: Do, a: Digits, levels: Tensor, out: Tensor, add: bool) -> None:
    """Record out (n, k) = a @ images / 255, or out += that, from their shifted grey levels (m, k)."""
    three, n, _ = a.digits.shape
    size = three * n * levels.shape[-1]
    exact, parts = do.new(size, dtype=torch.int32).view(three * n, -1), do.new(size).view(three, n, -1)
    factor = do.new(n).view(n, 1)
    do(torch._int_mm, a.digits.view(three * n, -1), levels, out=exact)
    do(parts.copy_, exact.view(parts.shape))
    whole = _together(do, parts)
    # Levels are 128 too small. Both terms come from the same sums in the same order: where all are 0 they cancel.
    do(whole.add_, a.sums, alpha=128)
    do(torch.div, a.unit, 255, out=factor)
    if add:
        do(out.addcmul_, whole, factor)
    else:
        do(torch.mul, whole, factor, out=out)


def _together(do: Do, parts: Tensor) -> Tensor:
    """Whole numbers from the sums over their digits, (3, ...) float32; parts are overwritten."""
    low, middle, high = parts.unbind()
    do(middle.add_, high, alpha=256)
    do(low.add_, middle, alpha=256)
    return low
