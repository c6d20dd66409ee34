"""Checkpoints: one dict of tensors and plain values a file, written whole or not at all."""

from pathlib import Path
from typing import Any

import torch

from fmnist import UserError
from fmnist.record.files import replacing


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state`; a crash at any moment leaves the old file or the new one."""
    with replacing(path, "wb") as file:
        torch.save(state, file)


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote, on the CPU. Raises UserError if the file is damaged. It cannot run code from the file."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage happens to hit
        raise UserError(f"{path} is damaged ({type(error).__name__}): remove it to start this run anew") from None
    assert isinstance(state, dict)
    return state
