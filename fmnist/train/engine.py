"""The one training loop: full batch or mini-batches, one run or a stack of K that differ only in per-run knobs."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fmnist.config.schema import Config
from fmnist.program.progress import progress
from fmnist.program.signals import catching
from fmnist.record.result import Outcome, metrics_in_words, read_result
from fmnist.speed.kernels import bfloat16_is_emulated
from fmnist.speed.profile import profiling
from fmnist.train.restore import assemble
from fmnist.train.run import Run
from fmnist.train.stack import Stack
from fmnist.view.ending import leave
from fmnist.view.histograms import histograms
from fmnist.view.measure import final
from fmnist.view.opening import opening
from fmnist.view.watch import watch

log = logging.getLogger("train")


@dataclass(frozen=True)
class Audience:
    """What is called while runs train. bar(epochs, first) gives a context whose update() is called each epoch.

    ended(place, outcome) is called when a run has failed, at once, or is done or paused. place: among the configs.
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
    Raises UserError for a mistake in data or directories; SystemExit(128 + signal) after SIGINT or SIGTERM: the first
    one ends the current epoch, which is saved; a second one, or one that comes after the last epoch, ends at once.
    """
    logs = logs or [log] * len(configs)
    results = [read_result(directory) for directory in directories]
    done = [result is not None and result["status"] == "done" for result in results]
    outcomes = [
        Outcome(r.get("objective"), r.get("metrics") or {}) if r and d else None
        for r, d in zip(results, done, strict=True)
    ]
    todo = [index for index, finished in enumerate(done) if not finished]
    for index in set(range(len(configs))) - set(todo):
        logs[index].info(f"{directories[index]} is done already: nothing to train")
    if todo:
        listener = replace(audience, ended=lambda index, outcome: audience.ended(todo[index], outcome))
        with flushed_denormals():
            stack = assemble([configs[i] for i in todo], [directories[i] for i in todo])
            trained = _train(stack, [directories[i] for i in todo], [logs[i] for i in todo], listener)
        for index, outcome in zip(todo, trained, strict=True):
            outcomes[index] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Within it numbers below 1e-38 count as zero. Moments of weights whose pixel is always black decay into such
    denormal numbers, on which processors compute up to 25 times slower.

    Threads inherit the setting when they start: enter before the first parallel operation of the process.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _train(
    stack: Stack, directories: Sequence[Path], logs: Sequence[logging.Logger], audience: Audience
) -> list[Outcome]:
    runs: list[Run] = []
    saved = False  # whether the last epoch is: then there is nothing to wait for

    def heed(caught: list[int]) -> None:
        if saved or len(caught) > 1:
            raise SystemExit(128 + caught[0])
        for run in runs:
            run.record.say("this epoch is finished first, and saved; a second signal ends the run at once")

    with ExitStack() as closing:
        caught = closing.enter_context(catching(heed))
        for index, directory in enumerate(directories):
            runs.append(closing.enter_context(Run(stack, index, directory, logs[index])))
        for run in runs:
            run.record.say(opening(stack, run.config, run.epoch, bfloat16_is_emulated))
            for remark in stack.dataset.remarks:
                run.record.log.warning(remark)
        with profiling(stack, directories[0], runs[0].record.say):
            _epochs(stack, runs, caught, audience)
        for run in runs:
            run.save()
        saved = True
        if caught:
            raise SystemExit(128 + caught[0])
        pausing = stack.common.last_epoch < stack.common.epochs
        outcomes = [run.pause() for run in runs] if pausing else _conclude(stack, runs)
        for index, outcome in enumerate(outcomes):
            if outcome.error is None:
                audience.ended(index, outcome)
        return outcomes


def _conclude(stack: Stack, runs: Sequence[Run]) -> list[Outcome]:
    """Measure the weights that are tested, and close the records of runs that have trained to their end."""
    for run in runs:
        stack.load_weights(run.index, run.tested_weights())
    metrics = final(stack)
    leave(stack, [run for run in runs if run.error is None and run.config.figures])
    by_run = [{tag: values[run.index] for tag, values in metrics.items()} for run in runs]
    return [run.finish(own, stack.dataset.classes) for run, own in zip(runs, by_run, strict=True)]


def _epochs(stack: Stack, runs: Sequence[Run], caught: list[int], audience: Audience) -> None:
    """Train the runs of a stack from where they are until each has stopped or reached the last epoch, or until a
    signal is caught."""
    common, held_out = stack.common, stack.dataset.validation
    starts = {run.epoch for run in runs if not run.stopped}
    if not starts:
        return
    if len(starts) > 1:
        raise ValueError(f"the runs of a stack must go on from the same epoch, got {sorted(starts)}")
    start = starts.pop()
    saved = time.perf_counter()
    with audience.bar(common.epochs, start) as bar:
        for epoch in range(start + 1, common.last_epoch + 1):
            clock = time.perf_counter()
            metrics = stack.train_epoch(epoch)
            measured = common.measured(epoch)
            if measured and held_out:
                with stack.tested_weights():
                    metrics |= stack.measure("validation", held_out)
            if measured and common.watch:
                metrics |= watch(stack)
            layers = histograms(stack) if measured and common.histograms else None
            now = time.perf_counter()
            training = [run for run in runs if not run.stopped]
            for run in training:
                run.seconds += (now - clock) / len(training)
                if layers is not None:
                    run.board.layers(epoch, layers[run.index])
                run.end_epoch(epoch, {tag: values[run.index] for tag, values in metrics.items()}, measured)
                if run.error is not None:
                    audience.ended(run.index, Outcome(None, run.record.metrics, run.error))
                elif measured and (epoch % common.log_every == 0 or epoch == common.epochs):
                    run.record.say(f"epoch {epoch}/{common.epochs}  {metrics_in_words(run.record.metrics, run.kind)}")
            bar.update()
            leaving = bool(caught)  # read once: a signal that comes later ends the next epoch, which is saved too
            if leaving or now - saved >= common.save_every:
                saved = now
                for run in runs:
                    run.save()
            if leaving:
                raise SystemExit(128 + caught[0])
            if all(run.stopped for run in runs):
                return
