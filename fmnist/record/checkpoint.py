"""Checkpoints: one dict of tensors and plain values a file, written whole or not at all."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from fmnist import UserError
from fmnist.record.files import naming, replacing


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state`; a crash at any moment leaves the old file or the new one. An OSError names the file."""
    packed = io.BytesIO()
    torch.save(state, packed)  # of a file that cannot be written it would not say why
    with replacing(path, "wb") as file:
        file.write(packed.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote, on the CPU; it cannot run code from the file. Raises UserError if the file is damaged or is
    not ours. A file that cannot be read raises OSError, and where memory is short torch raises what it raises."""
    with naming(path):
        content = path.read_bytes()
    state = None
    try:
        if zipfile.ZipFile(io.BytesIO(content)).testzip() is None:  # torch checks no sums, and would take any weights
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # both raise whatever the damage happens to hit
        if isinstance(error, MemoryError) or "allocate" in str(error):
            raise
    if not isinstance(state, dict) or "weights" not in state:
        raise UserError(f"{path} is damaged or no checkpoint: remove it to start this run anew")
    return state
