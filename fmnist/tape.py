"""A training step as a list of operations over kept buffers: recorded once per shape, replayed every step."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fmnist.integers import Digits, record_digits, record_product
from fmnist.kernels import THIN, Kernels, float32_products

# From outputs (K, rows, classes) and labels (K, rows) or (rows,) to figures by tag, (K, rows).
Figures = Callable[[Tensor, Tensor], dict[str, Tensor]]
ROWS_KEPT = 2048  # so many that arithmetic, and not the calls, is what their figures cost


class Totals:
    """By tag, a figure's sum over rows for each run, (K,) float64."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, Tensor] = {}
        self.later: dict[tuple[torch.Size, torch.Size], Later] = {}

    def of(self, tag: str, runs: int) -> Tensor:
        """One of them; zero when it is first asked for."""
        return self.sums.setdefault(tag, torch.zeros(runs, dtype=torch.float64, device=self.device))

    def add(self, figures: dict[str, Tensor]) -> None:
        """Add figures per row, (K, rows)."""
        for tag, figure in figures.items():
            self.of(tag, len(figure)).add_(figure.detach().sum(-1, dtype=torch.float64))

    def up_to_date(self) -> dict[str, Tensor]:
        """All of them, with what was kept for later."""
        for later in self.later.values():
            later.settle()
        return self.sums

    def reset(self) -> None:
        """Begin anew from zero."""
        for total in self.up_to_date().values():
            total.zero_()


class Later:
    """The outputs of the last batches and their labels, kept until there are enough to take their figures together.

    At small batches a dozen operations on a hundred numbers each would cost more than the products of the step.
    """

    def __init__(self, totals: Totals, figures: Figures, output: Tensor, labels: Tensor) -> None:
        self.totals, self.figures = totals, figures
        self.rows = output.shape[-2]
        size = max(1, ROWS_KEPT // self.rows) * self.rows
        self.outputs = output.new_empty(*output.shape[:-2], output.shape[-1], size)
        self.labels = labels.new_empty(*labels.shape[:-1], size)
        pieces = [slice(start, start + self.rows) for start in range(0, size, self.rows)]
        self.slots = [(self.outputs[..., piece].mT, self.labels[..., piece]) for piece in pieces]
        self.filled = 0

    def keep(self, output: Tensor, labels: Tensor) -> None:
        """Keep what they hold now."""
        if self.filled == len(self.slots):
            self.settle()
        outputs_kept, labels_kept = self.slots[self.filled]
        outputs_kept.copy_(output)
        labels_kept.copy_(labels)
        self.filled += 1

    @torch.no_grad()
    def settle(self) -> None:
        """Add the figures of all that is kept to the totals."""
        rows = self.filled * self.rows
        if rows:
            self.totals.add(self.figures(self.outputs[..., :rows].mT, self.labels[..., :rows]))
        self.filled = 0


class Tape:
    """Operations to be replayed: `do(f, *args, **kwargs)` adds one; nothing is computed while recording.

    A batch is recorded in one or more chunks of rows. Buffers are handed out from a pool, in the same order in each
    chunk, so that chunks, and tapes that are given the same pool, share them. Activations have their documented shape,
    (K, batch, features), but lie feature-major in memory.
    """

    data: Tensor  # the input of the chunk: it needs no gradient and must not be overwritten
    add: bool  # whether this chunk adds its gradients to those of the chunks before it

    def __init__(self, kernels: Kernels, dtype: torch.dtype, totals: Totals, pool: list[Tensor]) -> None:
        self.kernels, self.dtype, self.totals, self.pool = kernels, dtype, totals, pool
        self.operations: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self.setting = "highest"
        self.digits: dict[int, Digits] = {}

    def start(self, x: Tensor, levels: Tensor | None, add: bool) -> None:
        """Begin a chunk. levels: x's grey levels minus 128, where products may use them."""
        self.data, self.levels, self.add, self.handed = x, levels, add, 0
        self.kept = [x]

    def __call__(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.operations.append((f, args, kwargs))

    @torch.no_grad()
    def replay(self) -> None:
        """Do it all."""
        with float32_products("highest"):
            for f, args, kwargs in self.operations:
                f(*args, **kwargs)

    def later(self, figures: Figures, output: Tensor, labels: Tensor) -> None:
        """Add figures of the output to the totals, of many batches at once: see Later."""
        key = output.shape, labels.shape
        if key not in self.totals.later:
            self.totals.later[key] = Later(self.totals, figures, output, labels)
        self(self.totals.later[key].keep, output, labels)

    def new(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """The next buffer; of its last two dimensions the first is the contiguous one."""
        size, kind = math.prod(shape), dtype or self.dtype
        at, self.handed = self.handed, self.handed + 1
        if at == len(self.pool):
            self.pool.append(torch.empty(0))
        if self.pool[at].dtype != kind or self.pool[at].numel() < size:  # later chunks may be shorter
            self.pool[at] = torch.empty(size, dtype=kind, device=self.totals.device)
        block = self.pool[at][:size]
        return block.view(*shape[:-2], shape[-1], shape[-2]).mT if len(shape) > 1 else block.view(shape)

    def lasting(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """A buffer that no other chunk overwrites."""
        return torch.empty(shape, dtype=dtype or self.dtype, device=self.totals.device)

    def like(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """A new buffer of x's shape and layout."""
        if x.dim() > 1 and x.is_contiguous():
            return self.new(*x.mT.shape, dtype=dtype).mT
        return self.new(*x.shape, dtype=dtype)

    def keep(self, x: Tensor) -> None:
        """x will be needed again: nobody may write over it."""
        self.kept.append(x)

    def own(self, x: Tensor) -> Tensor:
        """x itself where it may be overwritten, else a new buffer like it."""
        return self.like(x) if any(x is other for other in self.kept) else x

    def product(self, a: Tensor, b: Tensor, out: Tensor, add: bool = False) -> None:
        """out = a @ b, or out += a @ b. K left sides that share a right side are one product."""
        if a.dim() > b.dim():
            a, out = a.view(-1, a.shape[-1]), out.view(-1, out.shape[-1])
            if self.levels is not None and b.data_ptr() == self.data.data_ptr():
                self._product_of_levels(a, b, out, add)
                return
        elif a.dim() == 3 and a.shape[0] == 1:
            a, b, out = a[0], b[0], out[0]
        plain, accumulating = (torch.mm, torch.addmm) if a.dim() == 2 else (torch.bmm, torch.baddbmm)
        if self.kernels.cast:
            rounded = [self.like(operand, torch.bfloat16) for operand in (a, b, out)]
            self(rounded[0].copy_, a)
            self(rounded[1].copy_, b)
            self(plain, *rounded[:2], out=rounded[2])
            self(out.add_ if add else out.copy_, rounded[2])
            return
        setting = self.kernels.thin if a.numel() * b.shape[-1] < THIN else self.kernels.wide
        if setting != self.setting:
            self(torch.set_float32_matmul_precision, setting)
            self.setting = setting
        if add:
            self(accumulating, out, a, b, out=out)
        else:
            self(plain, a, b, out=out)

    def _product_of_levels(self, a: Tensor, b: Tensor, out: Tensor, add: bool) -> None:
        assert self.levels is not None
        if b.stride() == self.data.stride():  # gradients @ x
            record_product(self, record_digits(self, a, self.new), self.levels, out, add)
            return
        key = a.data_ptr()  # weights @ x.T: the weights are the same in all chunks
        if key not in self.digits:
            self.digits[key] = record_digits(self, a, self.lasting)
        record_product(self, self.digits[key], self.levels.mT, out, add)

    def sum(self, x: Tensor, dim: int | tuple[int, ...], out: Tensor) -> None:
        """A gradient that is a sum: out = x.sum(dim), or out += x.sum(dim)."""
        part = self.new(*out.shape)  # taken in every chunk: all must ask for the same buffers
        if self.add:
            self(torch.sum, x, dim, out=part)
            self(out.add_, part)
        else:
            self(torch.sum, x, dim, out=out)

    def summed(self, x: Tensor) -> Tensor:
        """The sum of x (K, ...) for each run, (K,)."""
        part = self.new(len(x))
        self(torch.sum, x, tuple(range(1, x.dim())), out=part)
        return part

    def figure(self, tag: str, summed: Tensor, factor: float | Tensor = 1.0) -> None:
        """Add to a figure's total: sums (K,), times a number or one per run."""
        total = self.totals.of(tag, len(summed))
        if isinstance(factor, Tensor):
            self(total.addcmul_, summed, factor)
        else:
            self(total.add_, summed, alpha=factor)
