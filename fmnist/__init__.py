"""A research bench for Fashion-MNIST: hand-made layers, Hydra configs, one training loop, honest records.

One run is understood from these files, in this order: train.py, config/schema, data/dataset, data/batches, nn/layers,
nn/models, nn/losses, nn/optim, nn/step, train/stack, train/run, train/engine.
"""

import codecs
import functools
import io
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

__version__ = "0.1.0"
ROOT = Path(__file__).parents[1]  # the checkout; in a wheel, the folder of packages
CODE = ("train.py", "conf", "sweep", "fmnist/*.py", "fmnist/*.c")  # what decides a run, as git names it


class UserError(Exception):
    """A mistake the user can mend: shown as one line that names the knob and what is allowed, exit status 2."""


@functools.cache
def commit() -> str | None:
    """The checkout's commit, with "+" where code or configs differ from it; None outside a checkout. fmnist.train.run
    asks for it when the code is imported, so that a worker that lives for hours records the code that it runs."""
    if not (ROOT / ".git").exists():  # a repository around a wheel is not ours
        return None
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "--no-optional-locks", "status", "--porcelain=v2",
               "--branch", "--untracked-files=all", "--", *CODE]  # fmt: skip
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        told = subprocess.run(command, capture_output=True, check=True, env=plain).stdout.decode(errors="replace")
    except (OSError, subprocess.CalledProcessError):
        return None
    first, *others = told.splitlines()
    return first.removeprefix("# branch.oid ") + "+" * any(not line.startswith("#") for line in others)


@functools.cache
def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide the metrics."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("torch", "hydra-core", "tensorboard")}
    return {"python": platform.python_version(), **packages}


class _Output(io.FileIO):
    """A descriptor to print to. What it does not take for one of the `lost` reasons is lost."""

    lost: type[OSError] = BrokenPipeError

    def write(self, data: Any) -> int:
        with suppress(self.lost):
            if written := super().write(data):  # None where it would have to wait
                return written
        return len(data)


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for characters that an encoding lacks: the bytes of a file's name as they are, others as escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error("printable", _printable)


def lenient_output(lost: type[OSError] = BrokenPipeError) -> None:
    """Let a command end by no fault of what it prints to: a closed pipe such as `| head`, an encoding that lacks a
    character, a log file that cannot be written. lost: OSError loses what goes to a full disk as well."""
    logging.raiseExceptions = False
    _Output.lost = lost
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:  # None where the descriptor is closed; something else in a notebook
            lines = stream.line_buffering or stream.write_through
            raw = io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False))
            setattr(sys, name, io.TextIOWrapper(raw, stream.encoding, "printable", line_buffering=lines))


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run the main function of a command, and end the process with its status. A file that cannot be read or written
    is one line and status 1."""
    lenient_output()
    try:
        status = main() or 0
        print(end="", flush=True)
    except OSError as error:
        _Output.lost = OSError  # it may be the output itself
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"error: {reason}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
