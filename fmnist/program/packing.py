"""A dict of tensors and plain values as bytes, and back; equal dicts give equal bytes. They can bring no code.

The format is safetensors. The metadata have one entry, a JSON text. It has the dict, with {"$tensor": NAME} for each
tensor and {"$float": "inf"}, "-inf" or "nan" for numbers that JSON lacks. It also has the CRC-32 of all bytes but its
own digits. The name of a tensor is its place: "/weights/0.bias".
"""

import json
import math
import zlib
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

NO_SUM = "00000000"  # its digits are put in when all else is known
SUM = rb"{\"crc32\":\""  # what stands before them in the bytes


def packed(state: dict[str, Any]) -> bytes:
    """The bytes of a dict, which may hold dicts, lists, tensors, numbers, strings and None. Raises ValueError for keys
    that are no strings, begin with "$" or have a "/", and TypeError for anything else."""
    tensors: dict[str, Tensor] = {}
    content = {"crc32": NO_SUM, "state": _as_json(state, "", tensors)}
    text = json.dumps(content, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return _summed(safetensors.torch.save(tensors, {"state": text}))


def unpacked(content: bytes) -> Any:
    """What was packed, on the CPU. Raises ValueError where a byte has changed; what was made to mislead may raise any
    error, but takes no more memory than a few times its own size."""
    if content != _summed(content):
        raise ValueError("the sum is not that of the bytes")
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])  # which the library keeps to itself
    text = header["__metadata__"]["state"]
    return json.loads(text, object_hook=lambda found: _from_json(found, tensors))["state"]


def _summed(content: bytes) -> bytes:
    """The bytes with their sum in its place; bytes that have no place for it are changed."""
    head, mark, tail = content.partition(SUM)
    rest = tail[len(NO_SUM) :]
    return b"%s%s%08x%s" % (head, mark, zlib.crc32(rest, zlib.crc32(head)), rest)


def _as_json(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON can hold it. Its tensors are put into `tensors`."""
    if isinstance(value, Tensor):
        tensors[place] = value.detach().cpu().clone(memory_format=torch.contiguous_format)  # none may share memory
        return {"$tensor": place}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, list | tuple):
        return [_as_json(each, f"{place}/{index}", tensors) for index, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if wrong := [key for key in value if not isinstance(key, str) or "/" in key or key.startswith("$")]:
        raise ValueError(f"a key must be a string without '/' that does not begin with '$', got {wrong[0]!r}")
    return {key: _as_json(each, f"{place}/{key}", tensors) for key, each in value.items()}


def _from_json(found: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """What an object of the JSON text stands for."""
    if "$tensor" in found:
        return tensors[found["$tensor"]]
    return float(found["$float"]) if "$float" in found else found
