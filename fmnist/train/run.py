"""One run among the K of a stack: its record, its checkpoints, its best weights, and whether it still trains."""

import math
from dataclasses import asdict
from logging import Logger
from pathlib import Path
from typing import Any

from torch import Tensor

from fmnist import UserError
from fmnist.config.parse import config_hash
from fmnist.config.schema import MODELS, Config
from fmnist.record import checkpoint
from fmnist.record.record import Record
from fmnist.record.result import Outcome, metrics_in_words
from fmnist.speed.kernels import Kernels
from fmnist.train.stack import Stack


def last_state(config: Config, directory: Path) -> dict[str, Any] | None:
    """The checkpoint that a run goes on from, None for a new run. Raises UserError if it is damaged or another's."""
    if not (directory / "last.pt").exists():
        return None
    state = checkpoint.load(directory / "last.pt")
    if state["config_hash"] != config_hash(config):
        raise UserError(f"{directory}/last.pt is of another config: choose another hydra.run.dir")
    return state


class Run:
    """One run of a stack: its record, its checkpoint, its best weights, and whether it still trains."""

    def __init__(self, stack: Stack, index: int, directory: Path, log: Logger | None = None) -> None:
        self.stack, self.index, self.directory = stack, index, directory
        self.config = stack.configs[index]
        self.best: dict[str, Any] | None = None
        self.seconds = 0.0
        self.state: dict[str, Any] | None = None  # as of the last epoch it trained, once it has stopped
        self.error: str | None = None
        self.epoch = 0
        if state := last_state(self.config, directory):
            stack.load_weights(index, state["weights"])
            stack.optimizer.load_state_of(index, state["optimizer"])
            stack.step.go_on_with(Kernels(**state["kernels"]))
            self.epoch, self.best, self.seconds = state["epoch"], state["best"], state["seconds"]
            if self._out_of_patience():
                self.state = state
        self.record = Record(self.config, directory, self.epoch, log)
        self.record.save(seconds=self.seconds, best=self._best())

    def _best(self) -> dict[str, Any] | None:
        return self.best and {key: self.best[key] for key in ("epoch", "value")}

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and self.record.result["status"] == "running":  # it befell the run
            self.record.log.error("failed", exc_info=error)
            self.record.finish("failed", error=f"{type(error).__name__}: {error}")
        self.record.close()

    def end_epoch(self, epoch: int, metrics: dict[str, float], recorded: bool) -> None:
        """Take note of an epoch; stop if a loss is not finite, or if validation has not improved for too long."""
        self.epoch = epoch
        for tag in ("train/loss", "validation/loss"):
            if not math.isfinite(metrics.get(tag, 0.0)):
                hint = f"try a smaller lr (now {self.config.lr:g}) or set grad_clip"
                self.stop(f"{tag} is {metrics[tag]} in epoch {epoch}: {hint}")
                return
        if recorded:
            self.record.epoch({"epoch": epoch, **metrics})
            self._judge(metrics)
        if self._out_of_patience():
            self.record.say(f"epoch {epoch}: no better validation for {self.config.patience} epochs, stopped")
            self.stop()

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        return bool(self.best and patience and self.epoch - self.best["epoch"] >= patience)

    def _judge(self, metrics: dict[str, float]) -> None:
        kind = MODELS[self.config.model.name]
        value = metrics.get(f"validation/{kind.judged_by}")
        if value is None or (self.best and kind.better(value, self.best["value"]) == self.best["value"]):
            return
        self.best = {"epoch": self.epoch, "value": value, "weights": self.stack.weights(self.index)}

    def stop(self, error: str | None = None) -> None:
        """Train no further; what the stack does to this slot from now on does not count. An error is told at once."""
        self.error = error
        self.state = self._now()
        if error:
            self.record.say(f"failed: {error}")
            self.record.finish("failed", error=error, epoch=self.epoch, seconds=self.seconds)

    def _now(self) -> dict[str, Any]:
        return {
            "config_hash": config_hash(self.config), "epoch": self.epoch, "seconds": self.seconds, "best": self.best,
            "weights": self.stack.weights(self.index), "optimizer": self.stack.optimizer.state_of(self.index),
            "kernels": asdict(self.stack.step.kernels),
        }  # fmt: skip

    def save(self) -> None:
        """Write the checkpoints and bring the record up to date. A failed run keeps its last good checkpoint."""
        if self.error:
            return
        state = (self.state or self._now()) | {"seconds": self.seconds}
        checkpoint.save(self.directory / "last.pt", state)
        if self.best:
            checkpoint.save(self.directory / "best.pt", self.best)
        self.record.save(epoch=self.epoch, seconds=self.seconds, best=self._best())

    def tested_weights(self) -> dict[str, Tensor]:
        """The weights that are to be tested: the last, or those of the best validation."""
        if self.config.select == "best" and self.best:
            weights: dict[str, Tensor] = self.best["weights"]
            return weights
        return self.state["weights"] if self.state else self.stack.weights(self.index)

    def finish(self, test: dict[str, float]) -> Outcome:
        """Close the record of a run that has trained to its end."""
        if self.error:
            return Outcome(None, self.record.result["metrics"], self.error)
        metrics = self.record.metrics | test
        objective = self._objective(metrics)
        self.record.finish("done", metrics=metrics, objective=objective)
        self.record.say(f"{metrics_in_words(test)}  ({self.config.select} weights)")
        self.record.say(f"run directory: {self.directory}\ncurves: tensorboard --logdir {self.directory}")
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
        measure = MODELS[self.config.model.name].judged_by
        judged = metrics.get(f"validation/{measure}", metrics.get(f"train/{measure}"))
        return self.best["value"] if self.config.select == "best" and self.best else judged
