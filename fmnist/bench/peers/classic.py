"""What the classic learners of the bench share: the split, phases, figures. Standard library and numpy alone.

A learner prints lines of JSON: {"doing"} in words as it goes on, and at its end all that it has reached. It chooses on
the tail of the training rows, trains once on all of them, and opens the test file once.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import entrant
import numpy as np

TAIL = 0.2  # share of the training rows, the last ones, on which a learner chooses: as in this project's own runs
MOST, PATIENCE = 4000, 50  # boosting rounds; rounds without a better log loss on the tail, after which it is enough
AGAIN = 1.0  # seconds between two words on how it goes on

Rows = tuple[np.ndarray, np.ndarray]  # images (n, 784) and labels (n,)
Seen = Callable[..., None]  # told of each round: its number from 0, and the log loss on the tail where there is one
Probabilities = Callable[[np.ndarray], np.ndarray]  # of images (n, 784): (n, 10)
Fit = Callable[[Rows, Rows | None, int, Seen], tuple[Probabilities, int]]


class Course:
    """A learner's way: its phases, each with the time that it takes, and its end."""

    def __init__(self, *packages: str) -> None:
        self.channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what libraries print must not get between the answers
        self.versions = {"python": sys.version.split()[0], **entrant.versions_of((*packages, "numpy"))}
        self.seconds: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self.said = 0.0

    def _say(self, **answer: Any) -> None:
        self.channel.write(json.dumps(answer) + "\n")
        self.channel.flush()

    def doing(self, words: str) -> None:
        """Say how it goes on, now and then."""
        if (now := time.monotonic()) - self.said >= AGAIN:
            self.said = now
            self._say(doing=words)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what a part of the work takes: seconds, and seconds of processor time of all threads together."""
        self.said = 0.0
        self.doing(name)
        began, busy = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = time.perf_counter() - began
        self.processor[name] = time.process_time() - busy

    def end(self, settings: dict[str, Any], rows: int, tested: int, chosen: dict[str, Any], **figures: Any) -> None:
        """Say what it has reached on the test rows."""
        self._say(
            settings=settings, rows=rows, tested=tested, chosen=chosen, seconds=self.seconds, processor=self.processor,
            bytes=entrant.peak_memory(), versions=self.versions, **figures,
        )  # fmt: skip


def figures(p: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, and log loss in nats, of probabilities (n, 10); they are made to sum to 1, and none is below 1e-15."""
    own = (p / p.sum(1, keepdims=True))[np.arange(len(labels)), labels]
    right = float((p.argmax(1) == labels).mean())
    return {"accuracy": right, "log_loss": float(-np.log(own.clip(1e-15)).mean())}


def boost(work: argparse.Namespace, settings: dict[str, Any], fit: Fit, package: str) -> None:
    """Choose the number of rounds on the tail, train so many on all rows, and test.

    fit: given rows to train on, rows to stop early on or None, and the most rounds. It returns what gives the
    probabilities of images, and the number of rounds: those up to the best one.
    """
    course = Course(package)
    x, labels = entrant.load(work)
    cut = len(x) - round(len(x) * TAIL)

    def choosing(number: int, loss: float) -> None:
        course.doing(f"choosing rounds: {number + 1:,} of at most {MOST:,}, validation log loss {loss:.4f}")

    def training(number: int, *_: float) -> None:
        course.doing(f"training on all rows: round {number + 1:,} of {rounds:,}")

    with course.phase("choosing"):
        predict, rounds = fit((x[:cut], labels[:cut]), (x[cut:], labels[cut:]), MOST, choosing)
        held_out = figures(predict(x[cut:]), labels[cut:])
    with course.phase("training"):
        predict, _ = fit((x, labels), None, rounds, training)
    with course.phase("testing"):
        test, expected = entrant.load(work, "t10k")
        found = figures(predict(test), expected)
    chosen = {"rounds": rounds, "validation": held_out}
    course.end(settings, len(x), len(expected), chosen, **found)
