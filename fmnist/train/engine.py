"""The one training loop: full batch or mini-batches, one run or a stack of K that differ only in per-run knobs."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fmnist import UserError
from fmnist.config.schema import MODELS, Config
from fmnist.data.dataset import Dataset, Split, as_input, load
from fmnist.record.progress import progress
from fmnist.record.result import Outcome, metrics_in_words, read_result
from fmnist.speed.kernels import flushed_denormals
from fmnist.train.run import Run
from fmnist.train.signals import catching
from fmnist.train.stack import Stack, pick_device

log = logging.getLogger("train")


@dataclass(frozen=True)
class Audience:
    """Who hears of a training while it goes on. bar: (epochs, first) -> a context whose update() is called each epoch.

    ended: called with a run's place among the configs when it has failed, at once, or is done or paused.
    """

    bar: Callable[[int, int], AbstractContextManager[Any]] = progress
    ended: Callable[[int, Outcome], None] = lambda index, outcome: None


def fit(
    configs: Sequence[Config], directories: Sequence[Path], logs: Sequence[logging.Logger] | None = None,
    audience: Audience = Audience(),
) -> list[Outcome]:  # fmt: skip
    """Train K runs that agree in all but their per-run knobs, each with record, checkpoints and curve of a solo run.

    A run that is done is not trained again; one that was interrupted or paused goes on from its checkpoint (those of
    a stack must have stopped at the same epoch). logs: one per run, where they are not to share the logger "train".
    Raises UserError for a mistake in data or directories; SystemExit(128 + signal) after SIGINT or SIGTERM has ended
    the current epoch and everything is saved.
    """
    logs = logs or [log] * len(configs)
    results = [read_result(directory) for directory in directories]
    done = [result is not None and result["status"] == "done" for result in results]
    outcomes = [Outcome(r["objective"], r["metrics"]) if r and d else None for r, d in zip(results, done, strict=True)]
    todo = [index for index, finished in enumerate(done) if not finished]
    for index in set(range(len(configs))) - set(todo):
        logs[index].info(f"{directories[index]} is done already: nothing to train")
    if todo:
        heard = replace(audience, ended=lambda index, outcome: audience.ended(todo[index], outcome))
        with flushed_denormals():
            trained = _train([configs[i] for i in todo], [directories[i] for i in todo], [logs[i] for i in todo], heard)
        for index, outcome in zip(todo, trained, strict=True):
            outcomes[index] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


def _train(
    configs: Sequence[Config], directories: Sequence[Path], logs: Sequence[logging.Logger], audience: Audience
) -> list[Outcome]:
    common = configs[0]
    device = pick_device(common.device)
    dataset = load(**asdict(common.data), only=common.anomaly.normal).to(device)
    last = len(dataset.train.labels) % (common.batch_size or 1)
    if common.batch_norm and last == 1:
        raise UserError(f"batch_size must not leave a last batch of 1 row with batch_norm, got {common.batch_size}")
    stack = Stack(configs, dataset, device)
    with ExitStack() as closing:
        caught = closing.enter_context(catching(_insist))
        runs = [
            closing.enter_context(Run(stack, index, directory, logs[index]))
            for index, directory in enumerate(directories)
        ]
        for run in runs:
            run.record.say(_opening(run, dataset, device))
        _epochs(stack, runs, dataset.validation, caught, audience)
        for run in runs:
            run.save()
        pausing = _last_epoch(common) < common.epochs
        outcomes = [run.pause() for run in runs] if pausing else _conclude(stack, runs, dataset)
        for index, outcome in enumerate(outcomes):
            if outcome.error is None:
                audience.ended(index, outcome)
        return outcomes


def _conclude(stack: Stack, runs: Sequence[Run], dataset: Dataset) -> list[Outcome]:
    """Measure the test set and close the records of runs that have trained to their end."""
    for run in runs:
        stack.load_weights(run.index, run.tested_weights())
    test = stack.test(dataset.test)
    if not MODELS[stack.configs[0].model.name].classifies:
        for run in runs:
            if run.error is None and run.config.figures:
                _illustrate(run, dataset)
    return [run.finish({tag: values[run.index] for tag, values in test.items()}) for run in runs]


def _illustrate(run: Run, dataset: Dataset) -> None:
    """An autoencoder's pictures, in the run's directory and in TensorBoard."""
    from fmnist.train.pictures import draw  # matplotlib comes with it

    mirror, stack, shown = run.record.mirror, run.stack, slice(0, 1000)
    for name, file in draw(stack, run.index, dataset, run.directory / "figures").items():
        mirror.picture(f"figures/{name}", file, run.epoch)
    some = Split(dataset.test.images[shown], dataset.test.labels[shown])
    thumbnails = as_input(some.images, torch.float32).view(-1, 1, dataset.height, dataset.width)
    mirror.embedding(stack.codes(some)[run.index], [dataset.names[label] for label in some.labels], thumbnails)


def _last_epoch(config: Config) -> int:
    """The epoch with which `fit` ends: the run's last, or the recorded one after which it pauses."""
    rows = math.ceil(round((config.until or 1.0) * config.epochs / config.eval_every, 9))
    return min(rows * config.eval_every, config.epochs)


def _epochs(stack: Stack, runs: Sequence[Run], held_out: Split | None, caught: list[int], audience: Audience) -> None:
    """Train the runs of a stack from where they are until each has stopped or reached the last epoch, or until a
    signal is caught."""
    common = stack.configs[0]
    active = {run.epoch for run in runs if run.state is None}
    if not active:
        return
    if len(active) > 1:
        raise ValueError(f"the runs of a stack must go on from the same epoch, got {sorted(active)}")
    start = active.pop()
    saved = time.perf_counter()
    with audience.bar(common.epochs, start) as bar:
        for epoch in range(start + 1, _last_epoch(common) + 1):
            clock = time.perf_counter()
            last = epoch == common.epochs
            metrics = stack.epoch(epoch)
            recorded = epoch % common.eval_every == 0 or last
            if recorded and held_out:
                metrics |= stack.measure("validation", held_out)
            if recorded and common.watch:
                metrics |= stack.watch()
            now = time.perf_counter()
            for run in (run for run in runs if run.state is None):
                run.seconds += now - clock
                run.end_epoch(epoch, {tag: values[run.index] for tag, values in metrics.items()}, recorded)
                if run.error is not None:
                    audience.ended(run.index, run.finish({}))
                elif recorded and (epoch % common.log_every == 0 or last):
                    run.record.say(f"epoch {epoch}/{common.epochs}  {metrics_in_words(run.record.result['metrics'])}")
            bar.update()
            leaving = bool(caught)  # asked once: a signal that comes later finds the next epoch saved as well
            if leaving or now - saved >= common.save_every:
                saved = now
                for run in runs:
                    run.save()
            if all(run.state for run in runs):
                return
            if leaving and not last:
                _leave(runs, caught[0])


def _leave(runs: Sequence[Run], number: int) -> None:
    for run in (run for run in runs if run.error is None):
        run.record.finish("interrupted")
        run.record.say(f"interrupted after epoch {run.epoch}: the same command with "
                       f"hydra.run.dir={run.directory} continues it")  # fmt: skip
    raise SystemExit(128 + number)


def _insist(caught: list[int]) -> None:
    """The first signal ends with the epoch; a second one interrupts at once."""
    if len(caught) > 1:
        raise KeyboardInterrupt


def _opening(run: Run, dataset: Dataset, device: torch.device) -> str:
    held_out = len(dataset.validation.labels) if dataset.validation else 0
    weights = sum(p.numel() for p in run.stack.model.parameters()) // len(run.stack.configs)
    going_on = f", going on after epoch {run.epoch}" if run.epoch else ""
    return (
        f"{run.config.model.name}: {weights:,} parameters, {len(dataset.train.labels):,} training, {held_out:,} "
        f"validation and {len(dataset.test.labels):,} test images, {run.config.precision} on {device}{going_on}"
    )
