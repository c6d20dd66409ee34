"""Weights as a safetensors file, with what one must know of them as texts in its metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from fmnist.program.files import replacing


def write(path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write weights by name. facts: values that JSON can hold, by name; each becomes a JSON text. Files of the same
    weights and facts have the same bytes."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with replacing(path, "wb") as file:
        file.write(safetensors.torch.save(tensors, {"format": "pt"} | as_texts(facts)))


def as_texts(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as a format holds them that has room for texts only: those that are none are JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights and the metadata of a file that `write` wrote."""
    with safetensors.safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 - it is no dict
