"""One run among the K of a stack: its record, its checkpoints, its best weights, and whether it still trains."""

import math
from logging import Logger
from pathlib import Path
from typing import Any

from torch import Tensor

from fmnist import UserError
from fmnist.config.parse import config_hash
from fmnist.config.schema import Config, kind
from fmnist.data.dataset import digest
from fmnist.mirror.mirror import Mirror
from fmnist.program.version import commit
from fmnist.record import checkpoint
from fmnist.record.record import Record
from fmnist.record.result import Outcome, check_data, metrics_in_words, read_result
from fmnist.speed.kernels import machine
from fmnist.train.stack import Stack

commit()  # asked now, while the checkout still has the code that is imported
EXPLODED = 1e6  # the training loss of a run that learns is almost never above it


def last_state(config: Config, directory: Path) -> dict[str, Any] | None:
    """The checkpoint to go on from; None for a new run. Raises UserError if it is damaged, of another config or of
    other data. Where the config has another hash now, as for data that were moved, the checkpoint is given it."""
    if not (file := checkpoint.find(directory)):
        return None
    state = checkpoint.load(file)
    recorded = (read_result(directory) or {}).get("config_hash")  # check_directory has compared it, knob by knob
    if state.get("config_hash", "") not in (config_hash(config), recorded):
        raise UserError(f"{file} is of another config: choose another hydra.run.dir")
    check_data(directory, digest(config.data.name, config.data.dir))
    if state["config_hash"] != config_hash(config):
        state["config_hash"] = config_hash(config)
        checkpoint.save(file, state)
    return state


class Run:
    """One run of a stack. It goes on from the checkpoint in its directory; as a context, it records what ends it."""

    def __init__(self, stack: Stack, index: int, directory: Path, log: Logger | None = None) -> None:
        self.stack, self.index, self.directory = stack, index, directory
        self.config = stack.configs[index]
        self.kind = kind(self.config.model.name)
        self.best: dict[str, Any] | None = None
        self.seconds = 0.0
        self.final: dict[str, Any] | None = None  # the state as of the last epoch it trained, once it has stopped
        self.error: str | None = None
        self.exploded = False  # whether a line has said that its loss is very large
        self.epoch = 0
        if state := last_state(self.config, directory):
            check_data(directory, stack.dataset.teacher, "teacher")
            with checkpoint.judging(directory / "last.safetensors"):
                self.epoch, self.best, self.seconds = int(state["epoch"]), state["best"], float(state["seconds"])
                if self.best:
                    stack.load_weights(index, self.best["weights"])  # they must fit when all is done
                stack.load_weights(index, state["weights"])
                stack.optimizer.load_state_of(index, state["optimizer"])
                if stack.average is not None:
                    stack.average.load_state_of(index, state["average"])
                stack.step.go_on_with(state["kernels"])
                if self._out_of_patience():
                    self.final = state
        facts: dict[str, Any] = {"machine": machine(stack.optimizer.flat.data.device), "kernels": stack.step.settings()}
        facts["images"] = {name: getattr(stack.dataset, name) for name in ("height", "width", "names")}
        facts["teacher"] = stack.dataset.teacher or None
        self.record = Record(self.config, directory, self.epoch, log, **facts, data=stack.dataset.digest or None)
        self.record.save(seconds=self.seconds, best=self._best())

    @property
    def stopped(self) -> bool:
        """Whether it trains no further. The stack may go on to change its weights; `final` has those that count."""
        return self.final is not None

    @property
    def board(self) -> Mirror:
        """What TensorBoard is shown of it."""
        return self.record.mirror

    @property
    def log(self) -> Logger:
        """Its lines."""
        return self.record.log

    def _best(self) -> dict[str, Any] | None:
        return self.best and {key: self.best[key] for key in ("epoch", "value")}

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.record.result["status"] != "running":
            return
        if isinstance(error, SystemExit):
            if self.record.written() != "running":  # the signal came right after the end was written
                return
            self.record.finish("interrupted")
            saved = self.record.result["epoch"]
            self.record.say(f"interrupted: all up to epoch {saved} of {self.config.epochs} is saved")
        elif isinstance(error, Exception) and len(self.stack.configs) == 1:
            line = f"{type(error).__name__}: {error}".splitlines()[0]
            self.record.finish("failed", error=line)
            self.record.say(f"failed: {line}")
        # else whoever trains the stack says how its runs end: one that is too large is halved

    def end_epoch(self, epoch: int, metrics: dict[str, float], measured: bool) -> None:
        """Record an epoch; stop if a loss is not finite, or if validation has not improved for too long."""
        self.epoch = epoch
        for tag in ("train/loss", "validation/loss"):
            if not math.isfinite(metrics.get(tag, 0.0)):
                hint = f"try a smaller lr (now {self.config.lr:g}) or set grad_clip"
                self.stop(f"{tag} is {metrics[tag]} in epoch {epoch}: {hint}")
                return
        if self.kind.classifies and metrics["train/loss"] > EXPLODED and not self.exploded:
            self.exploded = True
            self.record.say(f"epoch {epoch}: the training loss is {metrics['train/loss']:.1g}: "
                            "try a smaller lr, norm=batch or grad_clip")  # fmt: skip
        if measured:
            self.record.add(epoch, metrics)
            self._judge(metrics)
        if self.config.cycles and not epoch % (cycle := self.config.epochs // self.config.cycles):
            state = {"epoch": epoch, "weights": self.tested_weights()}
            checkpoint.save(self.directory / f"snapshot-{epoch // cycle}.safetensors", state)
        if self._out_of_patience():
            self.record.say(f"epoch {epoch}: no better validation for {self.config.patience} epochs, stopped")
            self.stop()

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        waited = self.epoch - self.best["epoch"] if self.best else 0
        return bool(patience and waited >= patience and self.config.measured(self.epoch))

    def _judge(self, metrics: dict[str, float]) -> None:
        value = metrics.get(f"validation/{self.kind.judged_by}")
        if value is None or (self.best and self.kind.better(value, self.best["value"]) == self.best["value"]):
            return
        self.best = {"epoch": self.epoch, "value": value, "weights": self.stack.weights(self.index)}

    def stop(self, error: str | None = None) -> None:
        """End the training of this run. An error is recorded at once."""
        self.error = error
        self.final = self._now()
        if error:
            self.record.say(f"failed: {error}")
            self.record.finish("failed", error=error, epoch=self.epoch, seconds=self.seconds)

    def _now(self) -> dict[str, Any]:
        average = self.stack.average
        return {
            "config_hash": config_hash(self.config), "epoch": self.epoch, "seconds": self.seconds, "best": self.best,
            "weights": self.stack.weights(self.index), "optimizer": self.stack.optimizer.state_of(self.index),
            "average": average and average.state_of(self.index), "kernels": self.stack.step.settings(),
        }  # fmt: skip

    def save(self) -> None:
        """Write the checkpoints and bring the record up to date. A failed run keeps its last good checkpoint."""
        if self.error:
            return
        self.record.sync()  # a checkpoint must not be on the disk without the rows before it
        checkpoint.save(self.directory / "last.safetensors", (self.final or self._now()) | {"seconds": self.seconds})
        if self.best:
            checkpoint.save(self.directory / "best.safetensors", self.best)
        self.record.save(epoch=self.epoch, seconds=self.seconds, best=self._best())

    def tested_weights(self) -> dict[str, Tensor]:
        """The weights that are to be tested: the last, those of the best validation, or their running average."""
        state = self.final or self._now()
        if self.config.select == "best" and self.best:
            state = self.best
        weights: dict[str, Tensor] = state["average" if self.config.select == "average" else "weights"]
        return weights

    def finish(self, metrics: dict[str, float], classes: int) -> Outcome:
        """Close the record of a run that has trained to its end. metrics: of the weights that are tested."""
        if self.error:
            return Outcome(None, self.record.metrics, self.error)
        metrics = self.record.metrics | metrics
        objective = self._objective(metrics)
        self.record.finish("done", metrics=metrics, objective=objective)
        test = {tag: value for tag, value in metrics.items() if tag.startswith("test/")}
        self.record.say(f"{metrics_in_words(test)}  ({self.config.select} weights)")
        if self.kind.classifies and metrics["test/accuracy"] < 1.5 / classes:
            self.record.say("the test accuracy is near chance: the run has not learnt; try a smaller lr or norm=batch")
        self.record.say(f"run directory: {self.directory}")
        return Outcome(objective, metrics)

    def pause(self) -> Outcome:
        """Close the record of a run that is to go on later; its objective is what it has reached so far."""
        if self.error:
            return Outcome(None, self.record.metrics, self.error)
        objective = self._objective(self.record.metrics)
        self.record.finish("paused", objective=objective)
        self.record.say(f"paused after epoch {self.epoch} of {self.config.epochs}: {self.directory}")
        return Outcome(objective, self.record.metrics)

    def _objective(self, metrics: dict[str, float]) -> float | None:
        judged = self.kind.judged_by
        reached = metrics.get(f"validation/{judged}", metrics.get(f"train/{judged}"))
        return self.best["value"] if self.config.select == "best" and self.best else reached
