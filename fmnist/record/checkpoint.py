"""Checkpoints: one dict of tensors and plain values a file, written whole or not at all."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.program.files import naming, replacing
from fmnist.program.packing import packed, unpacked
from fmnist.program.reading import contents


def find(directory: Path, which: str = "last") -> Path | None:
    """A run's checkpoint, "last" or "best", if it has one. Raises UserError if that is of an older version."""
    file = directory / f"{which}.safetensors"
    if file.exists():
        return file
    if (older := file.with_suffix(".pt")).exists():
        command = f"python -m fmnist.convert {shlex.quote(str(directory))}"
        raise UserError(f"{older} is of an older version: `{command}` converts it")
    return None


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state`; a crash at any moment leaves the old file or the new one. An OSError names the file."""
    with replacing(path, "wb") as file:
        file.write(packed(state))


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote, on the CPU; it cannot run code from the file. Raises UserError if the file is damaged or is
    not ours. A file that cannot be read raises OSError, and where memory is short torch raises what it raises."""
    with naming(path):
        content = contents(path)
    with judging(path):
        state: dict[str, Any] = unpacked(content)
        state["weights"]  # every one has them
    return state


@contextmanager
def judging(path: Path) -> Iterator[None]:
    """Within it a checkpoint is used: any error but one of memory or CUDA becomes a UserError that names the file."""
    try:
        yield
    except Exception as error:  # whatever the damage happens to hit
        if isinstance(error, UserError | MemoryError) or any(words in str(error) for words in ("allocate", "CUDA")):
            raise
        raise UserError(f"{path} is damaged or no checkpoint: remove it to start this run anew") from None
