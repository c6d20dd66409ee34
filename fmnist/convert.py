"""`python -m fmnist.convert`: the checkpoints of older versions, last.pt and best.pt, as safetensors files."""

import argparse
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fmnist.launch.threads  # noqa: F401 - before torch

import torch
from torch import Tensor

from fmnist import UserError
from fmnist.launch.trouble import trouble
from fmnist.program.arguments import typed_path
from fmnist.program.files import naming
from fmnist.program.output import printable, run_command
from fmnist.program.reading import contents
from fmnist.record import checkpoint

TRUST = "these files must be your own: they are pickles, and torch's weights-only unpickler is trusted to run no code"


def convert(old: Path) -> Path:
    """Write an older checkpoint anew, as a file beside it, and remove it once that reads back as the same, bit for bit.
    Raises UserError where it is none, or where the other file is there already with other contents."""
    state, new = load_older(old), old.with_suffix(".safetensors")
    if not new.exists():
        try:
            checkpoint.save(new, state)
        except (TypeError, ValueError) as error:
            raise UserError(f"{old} is no checkpoint: {error}") from None
    if not same(state, checkpoint.load(new)):
        raise UserError(f"{new} does not hold what {old} holds: remove the one that is not wanted")
    old.unlink()
    return new


def load_older(path: Path) -> dict[str, Any]:
    """What older versions wrote, on the CPU. Raises UserError if the file is damaged or is not ours."""
    with naming(path):
        content = contents(path)
    state = None
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        plain = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())  # as torch writes them
        if plain and archive.testzip() is None:  # torch checks no sums, and would take any weights
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # both raise whatever the damage happens to hit
        if isinstance(error, MemoryError) or "allocate" in str(error):
            raise
    if not isinstance(state, dict) or "weights" not in state:
        raise UserError(f"{path} is damaged or no checkpoint")
    return state


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in all bits and types; a list is like a tuple."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and torch.equal(*(each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other)))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)  # by which nan is nan, and 1 is not 1.0


def older(directories: Sequence[Path]) -> list[Path]:
    """The older checkpoints in and below some directories. Of a run the best weights come first: it goes on from the
    others, and has all when it can."""
    files = {file for directory in directories for name in ("best.pt", "last.pt") for file in directory.rglob(name)}
    return sorted(file for file in files if not file.is_dir())


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.convert",
        description="Write checkpoints of older versions anew, as safetensors, so that their runs can go on.",
        epilog=f"Trust: {TRUST}.",
    )
    parser.add_argument("runs", type=typed_path, nargs="+", metavar="RUN", help="directories of runs, or of sweeps")
    directories = parser.parse_args().runs
    files, status = older(directories), 0
    if not files:
        print(printable(f"error: no last.pt or best.pt in {', '.join(map(str, directories))}"), file=sys.stderr)
        return 2
    print(TRUST)
    for file in files:
        try:
            print(printable(f"{file}: now {convert(file).name}"))
        except (UserError, OSError) as error:  # the others are converted
            print(printable(f"error: {trouble(error).text}"), file=sys.stderr)
            status = 2
    return status


if __name__ == "__main__":
    run_command(main)
