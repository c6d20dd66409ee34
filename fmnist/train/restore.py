"""A stack from configs, or from a run's directory: the one place where data, device and model come together."""

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmnist import UserError
from fmnist.config.parse import check_machine
from fmnist.config.schema import Config
from fmnist.data.dataset import Dataset, load, taught
from fmnist.nn.models import Parts, build
from fmnist.nn.noise import Noise
from fmnist.record import checkpoint
from fmnist.record.result import check_data, of_run, read_result
from fmnist.train.stack import Stack, check_weights


def pick_device(device: str) -> torch.device:
    """The device that a name stands for, which becomes torch's current one: "auto" is cuda where there is one."""
    picked = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if picked.type == "cuda" and picked.index is not None:
        torch.cuda.set_device(picked)
    return picked


def assemble(
    configs: Sequence[Config], directories: Sequence[Path] = (), saved: Any = None, data: Dataset | None = None
) -> Stack:
    """A stack of runs that agree in all but their per-run knobs, ready to train, with data and device. directories:
    theirs, where some may go on. saved: what `weights_of` gives; it must fit before the network has memory. data: in
    the place of theirs. Raises UserError for a mistake in the data, or in what the configs ask of them."""
    common = configs[0]
    device = pick_device(common.device)
    older = any(checkpoint.find(each) and not (read_result(each) or {}).get("data") for each in directories)
    dataset = data or load(**asdict(common.data), only=common.anomaly.classes, numbered=older)
    dataset = dataset.to(device)
    if common.teacher and not (saved or data):
        dataset = taught(dataset, common)
    last = len(dataset.train.labels) % (common.batch_size or len(dataset.train.labels) + 1)
    if common.norm == "batch" and last == 1:
        raise UserError(f"batch_size must not leave a last batch of 1 row with batch_norm, got {common.batch_size}")
    if saved:
        parts = Parts.of(configs, Noise(1), device="meta")
        with checkpoint.judging(saved[0]):
            check_weights(build(common.model, parts, dataset.height * dataset.width, dataset.classes), saved[1])
    return Stack(configs, dataset, device)


def weights_of(directory: Path, which: str) -> tuple[Path, dict[str, Tensor]]:
    """The weights of a run, "last", "best", "average" or "snapshot-N", and their file. UserError where it has none."""
    name = "last" if which == "average" else which
    if not (file := checkpoint.find(directory, name)):
        raise UserError(f"no weights in {directory}: {name}.safetensors is missing")
    state = checkpoint.load(file)
    if (kept := state.get("average" if which == "average" else "weights")) is None:
        raise UserError(f"no averaged weights in {directory}: it was trained with ema=null")
    return file, kept


def restore(directory: Path | str, weights: str | None = None, data: str | None = None, stand_in: Any = None) -> Stack:
    """A run's model as a stack of one, in evaluation mode, with its data. weights: see `weights_of`; None: those that
    were tested. data: where its data lie now, if they were moved. stand_in: a function of its weights that makes a
    Dataset with their digest, where the data themselves are not needed. Raises UserError where a run or its data are
    gone."""
    directory = Path(directory)
    config = of_run(directory)
    if data or stand_in or (config.data.name == "fashion" and not os.path.isdir(config.data.dir or "")):
        config.data.dir = data
    try:
        check_machine(replace(config, teacher=None))
    except UserError as error:
        raise UserError(f"{error}: --data DIR says where the data of {directory} lie now") from None
    saved = weights_of(directory, weights or config.select)
    with checkpoint.judging(saved[0]):
        dataset = stand_in and stand_in(saved[1])
    stack = assemble([config], [directory], saved, dataset)
    check_data(directory, stack.dataset.digest)
    stack.step.go_on_with((read_result(directory) or {}).get("kernels") or {})
    stack.load_weights(0, saved[1])
    stack.model.eval()
    return stack
