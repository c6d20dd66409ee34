"""A stack from configs, or from a run's directory: the one place where data, device and model come together."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fmnist import UserError
from fmnist.config.parse import check_machine
from fmnist.config.schema import Config
from fmnist.data.dataset import load
from fmnist.nn.models import Parts, build
from fmnist.nn.noise import Noise
from fmnist.record import checkpoint
from fmnist.record.result import check_data, of_run, read_result, recorded_data
from fmnist.train.stack import Stack, check_weights


def pick_device(device: str) -> torch.device:
    """The device that a name stands for, which becomes torch's current one: "auto" is cuda where there is one."""
    picked = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if picked.type == "cuda" and picked.index is not None:
        torch.cuda.set_device(picked)
    return picked


def assemble(configs: Sequence[Config], directories: Sequence[Path] = (), check: Any = None, data: Any = None) -> Stack:
    """A stack of runs that agree in all but their per-run knobs, ready to train, with data and device. directories:
    theirs, where some may go on. check: is called with the network before it has memory. data: a Dataset in the place
    of theirs. Raises UserError for a mistake in the data, or in what the configs ask of them."""
    common = configs[0]
    device = pick_device(common.device)
    older = any(checkpoint.find(directory) and not recorded_data(directory) for directory in directories)
    dataset = data or load(**asdict(common.data), only=common.anomaly.normal, numbered=older)
    dataset = dataset.to(device)
    last = len(dataset.train.labels) % (common.batch_size or len(dataset.train.labels) + 1)
    if common.norm == "batch" and last == 1:
        raise UserError(f"batch_size must not leave a last batch of 1 row with batch_norm, got {common.batch_size}")
    if check:
        parts = Parts.of(configs, Noise(1), device="meta")
        check(build(common.model, parts, dataset.height * dataset.width, dataset.classes))
    return Stack(configs, dataset, device)


def restore(directory: Path | str, weights: str | None = None, data: str | None = None, stand_in: Any = None) -> Stack:
    """A run's model as a stack of one, in evaluation mode, with its config and data. weights: last, best or average;
    None: those it was tested with. data: where its data lie now; None: where they lay. stand_in: a function of its
    weights that makes a Dataset with their digest, where the data themselves are not needed. Raises UserError where
    there is no such run, no such file, or other data than it was trained on."""
    directory = Path(directory)
    config = of_run(directory)
    if data or stand_in or (config.data.name == "fashion" and not os.path.isdir(config.data.dir or "")):
        config.data.dir = data
    try:
        check_machine(config)
    except UserError as error:
        raise UserError(f"{error}: --data DIR says where the data of {directory} lie now") from None
    which = weights or config.select
    name = "best" if which == "best" else "last"
    if not (file := checkpoint.find(directory, name)):
        raise UserError(f"no weights in {directory}: {name}.safetensors is missing")
    state = checkpoint.load(file)
    kept = state.get("average") if which == "average" else state["weights"]
    if kept is None:
        raise UserError(f"no averaged weights in {directory}: it was trained with ema=null")

    def check(model: torch.nn.Module) -> None:
        with checkpoint.judging(file):
            check_weights(model, kept)

    with checkpoint.judging(file):
        dataset = stand_in and stand_in(kept)
    stack = assemble([config], [directory], check, dataset)
    check_data(directory, stack.dataset.digest)
    stack.step.go_on_with((read_result(directory) or {}).get("kernels") or {})
    stack.load_weights(0, kept)
    stack.model.eval()
    return stack
