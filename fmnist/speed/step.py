"""The training step made fast: written on a tape once for each pair of input buffers, replayed ever after."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from fmnist.data.batches import Batch
from fmnist.nn.layers import Linear
from fmnist.nn.losses import Classification, Criterion
from fmnist.nn.optim import Optimizer
from fmnist.nn.step import Step
from fmnist.speed import integers, native, taped_models, taped_norms  # noqa: F401  (the last two register rules)
from fmnist.speed.graphs import capture_on
from fmnist.speed.kernels import Kernels, choose
from fmnist.speed.tape import Arenas, Tape
from fmnist.speed.taped import in_chunks, multiplies_only, write
from fmnist.speed.taped_losses import write_loss
from fmnist.speed.update import Update


class TapedStep(Step):
    """See Step. Where no tape can compute in the precision that is asked for, autograd does.

    The buffers' contents may change between calls, the parameters' too; neither may be rebound.
    """

    def __init__(
        self, model: nn.Module, criterion: Criterion, optimizer: Optimizer, precision: str, rows: int,
        black: float = 0.0,
    ) -> None:  # fmt: skip
        """rows: of a batch. black: the share of black pixels in the images, see `kernels.black_share`."""
        super().__init__(model, criterion, optimizer, precision)
        self.rows, self.black = rows, black
        self.tapes = dict[tuple[int, int, torch.Size, bool], tuple[Tape, Batch]]()
        self.arenas, self.capture = Arenas(optimizer.flat.data.device), capture_on(optimizer.flat.data.device)
        self.go_on_with({})

    def settings(self) -> dict[str, Any]:
        """The kernels; see Step."""
        return {} if self.kernels is None else asdict(self.kernels)

    def go_on_with(self, settings: dict[str, Any]) -> None:
        """Use the kernels that the run began with, if they serve here; see Step."""
        known = {name: value for name, value in settings.items() if name in Kernels.__dataclass_fields__}
        before = Kernels(**known) if known else None
        self.kernels = choose(self.optimizer.flat.data.device, self.precision, self.rows, self.black, before)
        self.update = Update.of(self.optimizer) if self.kernels and self.kernels.programs else None
        if self.kernels is None:
            return
        self.one_chunk = not in_chunks(self.model, self.criterion)
        only_products = isinstance(self.criterion, Classification) and multiplies_only(self.model)
        self.takes_pixels = self.kernels.of_pixels and only_products
        for layer in self.model.modules():
            if isinstance(layer, Linear) and self.takes_pixels:
                layer.of_images = native.product if self.kernels.black else integers.product

    def renew(self) -> None:
        """See Step. What tapes have computed of the criterion's values is computed anew."""
        for tape, _ in self.tapes.values():
            tape.renew()

    def __call__(self, batch: Batch, lr: Sequence[float], clip: Sequence[float | None]) -> None:
        """See Step. Where it can be, the update is part of the tape's last program."""
        if self.update is None or any(limit is not None for limit in clip):
            super().__call__(batch, lr, clip)
            return
        self.update.prepare(lr)
        self._replay(batch, self.update)

    def gradient(self, batch: Batch) -> None:
        """See Step."""
        if self.kernels is None:
            super().gradient(batch)
        else:
            self._replay(batch, None)

    def _replay(self, batch: Batch, update: Update | None) -> None:
        key = (batch.x.data_ptr(), batch.labels.data_ptr(), batch.x.shape, update is not None)
        if key not in self.tapes:
            self.tapes[key] = self._write(batch, update), batch  # holding the buffers keeps their addresses
        self.tapes[key][0].replay()

    def _write(self, batch: Batch, update: Update | None) -> Tape:
        kernels = self.kernels
        assert kernels is not None
        chunks = list(self.chunks(batch))
        sizes = [chunk.x.shape[-2] for chunk in chunks]
        tape = Tape(kernels, self.optimizer.flat.data.dtype, self.totals, self.arenas, sizes, self.capture)
        for number, chunk in enumerate(chunks):
            tape.start(number, chunk.x, chunk.pixels if kernels.of_pixels else None)
            output, back = write(self.model, tape, chunk.x)
            back(write_loss(self.criterion, tape, output, chunk.x, chunk.labels, tape.rows, **chunk.others))
            for frozen in (p.grad for p in self.model.parameters() if p.grad is not None and not p.requires_grad):
                tape(frozen.zero_)
            tape.end(update.instructions if update and number == len(chunks) - 1 else ())
        tape.compile()
        return tape
