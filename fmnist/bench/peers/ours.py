"""This project: `fmnist.train.stack.Stack`, as `fmnist.train.engine` trains it; with --runs K, K runs at once."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import entrant

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # time this checkout, whichever one is installed

from fmnist.config.parse import parse
from fmnist.launch.machine import set_threads
from fmnist.sources.fetch import read_ahead

KINDS = {
    "mlp": {}, "dropout": {"dropout": 0.5}, "batch_norm": {"batch_norm": True}, "skip": {"skip": True},
    "autoencoder": {}, "vae": {},
}  # fmt: skip


def arguments() -> argparse.Namespace:
    """The command line."""
    return entrant.arguments(
        kind=list(KINDS),
        precision=["float32", "bfloat16"],
        runs=["1", "10", "16"],
        orders=["shared", "own"],
        device=["cpu", "cuda"],
    )


@contextmanager
def stack_of(work: argparse.Namespace) -> Iterator[Any]:
    """Within it there is the stack, ready to train, as engine.fit trains it."""
    name = work.kind if work.kind in ("autoencoder", "vae") else "mlp"
    seeds = [work.seed + run for run in range(int(work.runs))]
    configs = [
        parse({
            "model": {"name": name, "hidden": work.hidden}, "optim": {"name": "adam"}, "seed": seed,
            "data": {"name": "fashion", "dir": str(work.data.parent), "limit": round(work.rows / 0.8)},
            "batch_size": None if work.full else work.batch, "schedule": "constant", "precision": work.precision,
            "order_seed": seed if work.orders == "own" else work.seed, "device": work.device, **KINDS[work.kind],
        })
        for seed in seeds
    ]  # fmt: skip
    read_ahead(configs[0].data.name, configs[0].data.dir)  # as train.py does, while torch is imported
    set_threads()
    import torch

    from fmnist.train.engine import flushed_denormals
    from fmnist.train.restore import assemble

    with flushed_denormals():
        torch.set_num_threads(work.threads)
        stack = assemble(configs)
        for run, seed in enumerate(seeds):
            state = stack.weights(run)
            matrices = [value for value in state.values() if value.dim() == 2]
            for matrix, drawn in zip(matrices, entrant.initial([tuple(m.shape) for m in matrices], seed), strict=True):
                matrix.copy_(torch.from_numpy(drawn))
            stack.load_weights(run, state)
        yield stack


def main() -> None:
    with stack_of(arguments()) as stack:
        import torch

        epoch = 0

        def train() -> tuple[float, float | None]:
            nonlocal epoch
            epoch += 1
            metrics = stack.train_epoch(epoch)
            return metrics["train/loss"][0], metrics.get("train/accuracy", [None])[0]

        entrant.serve(train, "torch", "fmnist", product=(torch.from_numpy, torch.mm))


if __name__ == "__main__":
    main()
