"""A training step as a list of operations over kept buffers: written once per shape, replayed every step."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fmnist.nn.totals import Later, Metrics, Totals
from fmnist.speed import native
from fmnist.speed.graphs import Capture, Operation, captured, perform
from fmnist.speed.integers import Digits
from fmnist.speed.kernels import THIN, Kernels, float32_products
from fmnist.speed.programs import Foreign, Known, programs
from fmnist.speed.translator import Translator


class Arena:
    """Blocks of memory, handed out in order; after `at = 0` the same ones are handed out again."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.blocks: list[Tensor] = []
        self.at = 0

    def take(self, size: int, dtype: torch.dtype) -> Tensor:
        """The next block, as a tensor of so many elements; it grows if need be."""
        if self.at == len(self.blocks):
            self.blocks.append(torch.empty(0, dtype=torch.uint8, device=self.device))
        count = size * dtype.itemsize
        if self.blocks[self.at].numel() < count:  # tapes that were written before keep the smaller block
            self.blocks[self.at] = torch.empty(count, dtype=torch.uint8, device=self.device)
        self.at += 1
        return self.blocks[self.at - 1][:count].view(dtype)


class Arenas:
    """Memory that all tapes of a model share: for one chunk, for all chunks in common, for a moment (scratch)."""

    def __init__(self, device: torch.device) -> None:
        self.chunk, self.common, self.scratch = (Arena(device) for _ in range(3))


class Tape:
    """Operations to be replayed: `tape(f, *args, **kwargs)` adds one; nothing is computed meanwhile.

    A batch is written in one or more chunks of rows, one after another. All that one chunk does is done before the
    next one begins, so that they share their buffers; but a layer whose rows see one another writes a `barrier`, at
    which each chunk waits for the others, and then every chunk has buffers of its own. Activations have their
    documented shape, (K, batch, features), but lie feature-major in memory.
    """

    data: Tensor  # the input of the chunk: it needs no gradient and must not be overwritten; perhaps its pixels
    compared: nn.Module | None = None  # the layer whose output is compared with the data; it lies in memory as they do
    chunk: int  # number of the chunk, from 0
    phase: int  # barriers that the chunk has passed

    def __init__(
        self, kernels: Kernels, dtype: torch.dtype, totals: Totals, arenas: Arenas, sizes: Sequence[int],
        capture: Capture | None = None,
    ) -> None:  # fmt: skip
        """sizes: rows of the chunks. capture: how to make a few graphs of the operations."""
        self.kernels, self.dtype, self.totals, self.sizes, self.rows = kernels, dtype, totals, sizes, sum(sizes)
        self.arenas, self.arena = arenas, arenas.chunk
        self.arena.at = 0
        self.phases: list[list[Any]] = [[]]  # operations; where they are translated, Known and Foreign until `compile`
        self.settings: list[str | None] = ["highest"]  # of float32 products at the end of each phase, where it is known
        self.digits: dict[int, Digits] = {}
        self.translate = Translator() if kernels.programs else None
        self.capture, self.warm = capture, False
        self.captured: list[Operation] = []
        self.derived: list[Operation] = []

    def derive(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Do an operation now, outside of the tape, and whenever the values that the criterion has are other ones."""
        self.derived.append((f, args, kwargs))
        self.renew(self.derived[-1:])

    @torch.no_grad()
    def renew(self, operations: Sequence[Operation] | None = None) -> None:
        """Do again what was derived of values that are other ones now."""
        perform(self.derived if operations is None else operations)

    def start(self, chunk: int, x: Tensor, pixels: Tensor | None) -> None:
        """Begin a chunk. pixels: x's grey levels, where products may use them."""
        self.chunk, self.data, self.pixels, self.phase = chunk, x, pixels, 0
        self.kept = set[int]()
        self.keep(x)
        self.arenas.common.at = 0
        self.last = list[Operation]()
        if self.translate:
            self.translate.rows = x.shape[-2]
        if len(self.phases) == 1:
            self.arena.at = 0

    @property
    def add(self) -> bool:
        """Whether this chunk adds its gradients to those of the chunks before it."""
        return self.chunk > 0

    @property
    def operations(self) -> list[Operation]:
        """All operations, in the order in which they are done."""
        return [operation for phase in self.phases for operation in phase]

    def __call__(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._write((f, args, kwargs), self.translate(f, args, kwargs) if self.translate else None)

    def _write(self, operation: Operation, known: list[Known] | None) -> None:
        """Add an operation. known: the instructions for it."""
        self.phases[self.phase] += known or [Foreign(operation) if self.translate else operation]

    def end(self, update: Sequence[Known] = ()) -> None:
        """End a chunk. update: what is to be done when the gradients of all chunks are there."""
        self.phases[-1] += update
        for f, args, kwargs in self.last:
            self(f, *args, **kwargs)

    def compile(self) -> None:
        """Put consecutive operations that the native library knows into programs, where the tape has them."""
        if self.translate:
            self.phases, self.translate = [programs(phase) for phase in self.phases], None

    def barrier(self) -> None:
        """What this chunk writes after it is done only when all chunks have done what they wrote before it."""
        if len(self.sizes) == 1:
            return
        self.phase += 1
        if self.phase == len(self.phases):
            self.phases.append([])
            self.settings.append(None)

    @torch.no_grad()
    def replay(self) -> None:
        """Do all operations."""
        with float32_products("highest"):
            if self.capture is None:
                for phase in self.phases:
                    perform(phase)
            elif self.captured:
                perform(self.captured)
            elif self.warm:
                self.captured = captured(self.operations, self.capture)
            else:
                self.capture.warm_up(self.operations)
                self.warm = True

    def later(self, metrics: Metrics, output: Tensor, *targets: Tensor) -> None:
        """Add metrics of the output to the totals, for many batches at once, when the chunk ends: see Later."""
        key = output.shape, *(target.shape for target in targets)
        if key not in self.totals.later:
            self.totals.later[key] = Later(self.totals, metrics, output, *targets)
        self.keep(output)
        self.last.append((self.totals.later[key].keep, (output, *targets), {}))

    def new(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """The next buffer; of its last two dimensions the first is the contiguous one."""
        block = self.arena.take(math.prod(shape), dtype or self.dtype)
        if self.translate:
            self.translate.batch_step[block.untyped_storage().data_ptr()] = 1 if len(shape) > 1 else 0
        return block.view(*shape[:-2], shape[-1], shape[-2]).mT if len(shape) > 1 else block.view(shape)

    def by_row(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """The same with the last dimension contiguous, as data lie."""
        x = self.new(*shape[:-2], shape[-1], shape[-2], dtype=dtype).mT
        if self.translate:
            self.translate.batch_step[x.untyped_storage().data_ptr()] = shape[-1]
        return x

    def common(self, *shape: int) -> Tensor:
        """A buffer that all chunks have in common. Each must ask for the same ones, in the same order."""
        return self.arenas.common.take(math.prod(shape), self.dtype).view(shape)

    def lasting(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """A buffer that is never used again for anything else: for what one chunk makes for all."""
        return torch.empty(shape, dtype=dtype or self.dtype, device=self.totals.device)

    @contextmanager
    def scratch(self) -> Iterator[None]:
        """Within it, new buffers serve only what is written within it. All of them share one memory, which therefore
        stays in the caches."""
        outer, self.arena = self.arena, self.arenas.scratch
        start = self.arena.at
        try:
            yield
        finally:
            self.arena.at, self.arena = start, outer

    def like(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """A new buffer of x's shape and layout."""
        by_row = x.dim() > 1 and x.is_contiguous()
        return (self.by_row if by_row else self.new)(*x.shape, dtype=dtype)

    def keep(self, x: Tensor) -> None:
        """x will be needed again: nobody may write over its memory."""
        self.kept.add(x.untyped_storage().data_ptr())

    def constant(self, x: Tensor) -> bool:
        """Whether x needs no gradient: it is the data, or what all runs share and is made of the data alone."""
        return x is self.data or x.dim() < 3

    def own(self, x: Tensor) -> Tensor:
        """x itself where it may be overwritten, else a new buffer like it. A view that shows memory twice may not."""
        kept = x.untyped_storage().data_ptr() in self.kept or 0 in x.stride()
        return self.like(x) if kept else x

    def product(
        self, a: Tensor, b: Tensor, out: Tensor, add: bool = False, fixed: bool = False, images: str | None = None
    ) -> None:
        """out = a @ b, or out += a @ b. K left sides that share a right side are one product. fixed: a is the same in
        all chunks. images: b is the data of the chunk, and the sum is over their "pixels" or over their "rows"."""
        if images and self.pixels is not None and a.is_contiguous() and out.is_contiguous():
            self._product_with_images(a, self.pixels, images == "pixels", out, add, fixed)
            return
        if a.dim() > b.dim():
            a, out = a.view(-1, a.shape[-1]), out.view(-1, out.shape[-1])
        elif a.dim() == 3 and a.shape[0] == 1:
            a, b, out = a[0], b[0], out[0]
        plain, accumulating = (torch.mm, torch.addmm) if a.dim() == 2 else (torch.bmm, torch.baddbmm)
        operation = accumulating if add else plain, (out, a, b) if add else (a, b), {"out": out}
        thin = a.numel() * b.shape[-1] < THIN
        known = None
        if self.translate and (thin or not self.kernels.integers):  # where AMX is, torch's own large ones are fast
            known = self.translate(*operation)
        setting = self.kernels.thin if thin else self.kernels.wide
        if known is None and setting != self.settings[self.phase]:
            self(torch.set_float32_matmul_precision, setting)
            self.settings[self.phase] = setting
        self._write(operation, known)

    def _product_with_images(
        self, a: Tensor, pixels: Tensor, along_pixels: bool, out: Tensor, add: bool, fixed: bool
    ) -> None:
        if self.kernels.black:
            self(native.multiply_images, a, pixels, out, along_pixels, add)
            return
        keep = fixed and len(self.sizes) > 1
        if keep and self.chunk == 0:
            self.digits[a.data_ptr()] = Digits(a.shape, self.lasting, keep)
        with self.scratch():
            digits = self.digits[a.data_ptr()] if keep else Digits(a.shape, self.new)
            self(digits.multiply, None if keep and self.chunk else a, pixels, out, along_pixels, add)

    def sum(self, x: Tensor, dim: int | tuple[int, ...], out: Tensor) -> None:
        """A gradient that is a sum: out = x.sum(dim), or out += x.sum(dim)."""
        if not self.add:
            self(torch.sum, x, dim, out=out)
            return
        with self.scratch():
            sums = self.new(out.numel()).view(out.shape)
            self(torch.sum, x, dim, out=sums)
            self(out.add_, sums)

    def summed(self, x: Tensor) -> Tensor:
        """The sum of x (K, ...) for each run, (K,)."""
        sums = self.new(len(x))
        self(torch.sum, x, tuple(range(1, x.dim())), out=sums)
        return sums

    def metric(self, tag: str, summed: Tensor, factor: float | Tensor = 1.0) -> None:
        """Add to a metric's total: sums (K,), times a number or one per run."""
        total = self.totals.of(tag, len(summed))
        if isinstance(factor, Tensor):
            self(total.addcmul_, summed, factor)
        else:
            self(total.add_, summed, alpha=factor)
