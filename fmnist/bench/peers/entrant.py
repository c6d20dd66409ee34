"""What all entrants of the bench share: arguments, data, initial weights, protocol. Standard library and numpy alone.

An entrant prepares, says that it is ready, and then answers each line on stdin with one line of JSON:

    epoch    trains one pass -> {"seconds", "loss", "accuracy"}: the means over the rows as they were trained on; loss
             in nats; null for an accuracy that the model does not have, and for a loss that is not finite
    product  -> {"gflops"}: its speed in a float32 product of SIDE x SIDE matrices; null if it has none to time
    memory   -> {"bytes", "avx512"}: its peak resident memory so far; whether AVX-512's registers were in use since it
             was ready, null where the system does not tell
    quit     ends it, as the end of stdin does

Between answers it sleeps in a blocking read, and takes no time from the others.
"""

import argparse
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

CLASSES, PIXELS = 10, 784
SIDE = 1024
SGD_RATE = 0.1
FILES = {"images": ("images-idx3-ubyte", 16), "labels": ("labels-idx1-ubyte", 8)}  # name, bytes of header


def arguments(**own: list[str]) -> argparse.Namespace:
    """The command line of an entrant.

    own: the choices of its further options, by name; the first is the default. batch: rows, on the command line 0 for
    all of them. full: whether a batch is all of them. steps: batches in an epoch.
    """
    bindable = hasattr(os, "sched_setaffinity")  # macOS has no such call
    processors = sorted(os.sched_getaffinity(0)) if bindable else range(os.cpu_count() or 1)
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder of the raw IDX files")
    parser.add_argument("--hidden", type=lambda text: [int(width) for width in text.split(",") if width], required=True)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--rows", type=int, default=48_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(processors))
    for name, choices in own.items():
        parser.add_argument(f"--{name}", choices=choices, default=choices[0])
    work = parser.parse_args()
    work.full = not work.batch or work.batch >= work.rows
    work.batch = work.rows if work.full else work.batch
    work.steps = -(-work.rows // work.batch)
    # Every library sizes its thread pool by the processors it may use: fewer threads are fewer of those.
    if bindable:
        os.sched_setaffinity(0, processors[: work.threads])
    return work


def load(work: argparse.Namespace, part: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Images (rows, 784) float32 in [0, 1] and labels (rows,) int64: the first rows of the training file, or all of the
    test file, part "t10k"."""
    files = [(work.data / f"{part}-{name}", header) for name, header in FILES.values()]
    images, labels = (np.fromfile(file, np.uint8, offset=header) for file, header in files)
    rows = work.rows if part == "train" else len(labels)
    x = images.reshape(-1, PIXELS)[:rows].astype(np.float32)
    x /= 255
    return x, labels[:rows].astype(np.int64)


def initial(shapes: list[tuple[int, int]], seed: int) -> Iterator[np.ndarray]:
    """He's initial weights for layers of shape (out, in), float32, the same for all entrants; biases start at zero."""
    generator = np.random.default_rng(seed)
    for out, inputs in shapes:
        yield (generator.standard_normal((out, inputs)) * np.sqrt(2 / inputs)).astype(np.float32)


def layers(work: argparse.Namespace) -> list[tuple[int, int]]:
    """The classifier's layers as (out, in)."""
    return [(out, inputs) for inputs, out in pairwise([PIXELS, *work.hidden, CLASSES])]


Product = tuple[Callable[[np.ndarray], Any], Callable[[Any, Any], Any]]  # to a library's matrix; their product, done


class Turns:
    """The entrant's side of the protocol, for libraries that own the loop: `wait` for a turn, then `answer`.

    A turn lasts from one answer to the next, without the waiting: what a library does between epochs counts.
    """

    def __init__(self, *packages: str, product: Product | None = None) -> None:
        self.product = product
        self.began = time.perf_counter()
        self.channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what libraries print must not get between the answers
        self.clock = 0.0
        self.spent = 0.0
        self.say(ready=True, versions={"python": sys.version.split()[0], **versions_of(packages)})

    def say(self, **answer: Any) -> None:
        self.channel.write(json.dumps(answer) + "\n")
        self.channel.flush()
        self.clock = time.perf_counter()

    def wait(self) -> None:
        """Return when an epoch is to be trained."""
        self.spent = time.perf_counter() - self.clock
        for line in iter(sys.stdin.readline, ""):
            if line == "epoch\n":
                self.clock = time.perf_counter()
                return
            if line == "quit\n":
                break
            if line == "product\n":
                self.say(gflops=gflops(*self.product) if self.product else None)
            else:
                self.say(bytes=peak_memory(), avx512=used_avx512(self.began))
        sys.exit()

    def stop(self) -> None:
        """End the turn's time before its answer: what comes between is no part of the work."""
        self.spent += time.perf_counter() - self.clock
        self.clock = math.nan

    def answer(self, loss: float | None, accuracy: float | None, **more: Any) -> None:
        """The epoch's metrics; they must be numbers on the host: an accelerator's queue is then empty."""
        seconds = self.spent + (0.0 if math.isnan(self.clock) else time.perf_counter() - self.clock)
        finite = loss is not None and math.isfinite(loss)
        self.say(seconds=seconds, loss=loss if finite else None, accuracy=accuracy, **more)


def serve(
    train: Callable[[], tuple[float | None, float | None]], *packages: str, product: Product | None = None
) -> NoReturn:
    """Serve with a function that trains one epoch and returns its mean loss and accuracy."""
    turns = Turns(*packages, product=product)
    while True:
        turns.wait()
        turns.answer(*train())


def serve_without_figures(
    train: Callable[[], None], weights: Callable[[], list[np.ndarray]], work: argparse.Namespace, *packages: str,
    product: Product,
) -> NoReturn:  # fmt: skip
    """Serve with a function that trains one epoch and measures nothing. Loss and accuracy are those after the epoch.

    weights: matrices (out, in) and biases of the layers, in turns, as they are now.
    """
    x, labels = load(work)
    turns = Turns(*packages, product=product)
    while True:
        turns.wait()
        train()
        turns.stop()
        matrices, biases = weights()[::2], weights()[1::2]
        z = x
        for depth, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
            z = (np.maximum(z, 0) if depth else z) @ matrix.T + bias
        z -= z.max(1, keepdims=True)
        losses = np.log(np.exp(z).sum(1)) - z[np.arange(work.rows), labels]
        turns.answer(float(losses.mean()), float((z.argmax(1) == labels).mean()))


def gflops(convert: Callable[[np.ndarray], Any], multiply: Callable[[Any, Any], Any], times: int = 10) -> float:
    """The speed of a library's float32 product, the best of several."""
    a, b = map(convert, np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32))
    best = math.inf
    for _ in range(times):
        start = time.perf_counter()
        multiply(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best / 1e9


def used_avx512(since: float) -> bool | None:
    """Whether a thread of this program had AVX-512's registers in use after that time of the clock; None: unknown.

    Linux notes it whenever a thread stops running.
    """
    time.sleep(0.02)
    ago = 1e3 * (time.perf_counter() - since) - 20  # ms; the system counts in steps of up to 10
    try:
        noted = [
            int(line.split()[1]) for thread in Path("/proc/self/task").iterdir()
            for line in (thread / "arch_status").read_text(encoding="utf-8").splitlines() if line.startswith("AVX512")
        ]  # fmt: skip
    except OSError:
        return None
    return any(0 <= last < ago for last in noted) if noted else None


def peak_memory() -> int:
    """Bytes. The kernel's mark of this program alone: getrusage's begins with that of its parent."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
