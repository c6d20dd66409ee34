"""The importance-weighted bound of variational autoencoders, by any number of samples."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fmnist.config.schema import Config
from fmnist.nn.losses import bernoulli
from fmnist.nn.models import VAE
from fmnist.nn.step import MEASURED, chunk_rows, evaluating
from fmnist.program.files import cache, replacing
from fmnist.program.version import commit

BLOCK = 2 * MEASURED  # images whose samples are drawn together, by noise of their own
MANY = 500  # samples from which on what was measured of a block is kept
MOST = 1000  # blocks that are kept, the newest
FILE = "bounds.json"  # in the user's cache folder


Bars = Callable[[int], AbstractContextManager[Any]]  # of so many steps: gives what has `update`


class Varied(Protocol):
    """What is needed of a stack of K variational autoencoders; see fmnist.train.stack.Stack."""

    configs: Sequence[Config]
    model: Any

    def start_noise(self, part: str | int) -> None: ...


def negative_iwae(stack: Varied, x: Tensor, samples: int, bar: Bars, rows: int | None = None) -> list[float]:
    """-log (1/S) sum_s p(x, z_s) / q(z_s|x), the importance-weighted bound (Burda et al. 2016), in nats: the mean over
    images x (n, features), for each run. It is never above the negative ELBO, and nearer to -log p(x) the more samples
    it has.

    bar: shows how many samples of all blocks are done; see `fmnist.program.progress`. rows: images that are decoded
    together, about; None: as many as the device likes. They decide the memory that is needed, and change the result by
    rounding alone. A block that takes long is kept in the user's cache folder: a measurement that was interrupted goes
    on behind the last one.
    """
    blocks, model = torch.split(x, BLOCK), stack.model
    total = torch.zeros(len(stack.configs), dtype=torch.float64)
    keep = samples >= MANY
    weights = _sum_of(*model.state_dict().values()) if keep else ""
    with evaluating(model), bar(len(blocks) * samples) as shown:
        for number, block in enumerate(blocks):
            part = f"iwae {number}" if number else "iwae"
            what = [part, samples, [c.seed for c in stack.configs], str(x.device.type), commit(), weights]
            key = _sum_of(block, said=json.dumps(what)) if keep else ""
            if (found := _kept(key, len(total))) is None:
                stack.start_noise(part)
                together = rows or chunk_rows(x.device)
                found = log_likelihood(model, block, samples, together, shown.update).sum(-1).tolist()
                if keep:
                    _keep(key, found)
            else:
                shown.update(samples)
            total -= torch.tensor(found, dtype=torch.float64)
    return (total / len(x)).tolist()


def log_likelihood(
    model: VAE, x: Tensor, samples: int, rows: int, update: Callable[[int], Any] = lambda samples: None
) -> Tensor:
    """The bound of log p(x) by so many samples, of each image (n, features) and run, (K, n) float64. rows: that are
    decoded together, about. update: is told of each few samples."""
    q, p = model.posterior(x), model.prior()
    runs, n, together = len(model.noise.generators), len(x), max(1, rows // len(x))
    images = x.mT.contiguous().mT  # as the logits lie in memory
    total = torch.full((runs, n), -math.inf, dtype=torch.float64, device=x.device)
    for start in range(0, samples, together):
        count = min(together, samples - start)
        normal = x.new_empty(runs, count, n, model.width)
        for number in range(count):  # one by one: so that noise does not depend on how many are taken together
            model.noise.normal(normal[:, number])
        repeated = q if count == 1 else tuple(part.repeat(1, count, 1) for part in q)
        z, log_ratio = model.draw(repeated, p, normal.flatten(1, 2))
        logits = torch.unflatten(model.decode(z), -2, (count, n))
        log_weight = -bernoulli(logits, images) - torch.unflatten(log_ratio, -1, (count, n))
        total = torch.logaddexp(total, log_weight.double().logsumexp(1))
        update(count)
    return total - math.log(samples)


def _sum_of(*tensors: Tensor, said: str = "") -> str:
    """A digest of tensors and a text."""
    digest = hashlib.blake2b(said.encode(), digest_size=16)
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _kept(key: str, runs: int) -> list[float] | None:
    """What was measured of a block, a number for each run; None where it was not, or cannot be read."""
    found = _table().get(key)
    valid = isinstance(found, list) and len(found) == runs and all(isinstance(number, float) for number in found)
    return found if valid else None


def _keep(key: str, found: list[float]) -> None:
    """Keep what was measured of a block. Errors: none; without a cache folder it is measured again."""
    if (folder := cache()) is None:
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / FILE, writer=str(os.getpid())) as stream:
            json.dump(dict([*_table().items(), (key, found)][-MOST:]), stream)


def _table() -> dict[str, Any]:
    try:
        found = json.loads((cache() or Path()).joinpath(FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
