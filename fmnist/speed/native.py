"""The native library: operations on float32 tensors, compiled from native/*.c for each set of instructions.

An instruction is one operation with the addresses and steps of its tensors; a program is a list of them, done by one
call. Without a C compiler, or on a processor that the library was not compiled for, there is none: torch does the work.
"""

import ctypes
import functools
import importlib.util
import logging
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from fmnist import UserError
from fmnist.nn.layers import product_with_images

log = logging.getLogger("train")

# In the order of native/native.h.
CODES = {
    name: code for code, name in enumerate((
        "multiply", "multiply_images", "sum_rows", "sum_features", "log_softmax", "scatter", "accumulate", "adam",
        "copy", "add", "sub", "mul", "addcmul", "plus", "scale", "rsqrt", "clamp_min", "threshold_backward",
        "leaky_relu", "leaky_relu_backward", "exp", "log", "neg", "abs", "sign", "sigmoid", "sigmoid_backward", "tanh",
        "tanh_backward", "silu", "silu_backward", "lerp",
    ))
}  # fmt: skip


class Operand(ctypes.Structure):
    """Where a tensor begins, and its steps in elements."""

    _fields_ = (
        ("at", ctypes.c_void_p), ("run", ctypes.c_int64), ("feature", ctypes.c_int64), ("row", ctypes.c_int64),
    )  # fmt: skip


class Instruction(ctypes.Structure):
    """One operation; see native.h."""

    _fields_ = (
        ("code", ctypes.c_int64), ("alone", ctypes.c_int64), ("waits", ctypes.c_int64), ("turned", ctypes.c_int64),
        ("runs", ctypes.c_int64), ("features", ctypes.c_int64), ("rows", ctypes.c_int64), ("depth", ctypes.c_int64),
        ("add", ctypes.c_int64), ("number", ctypes.c_double), ("operand", Operand * 5),
    )  # fmt: skip


def isa() -> str:
    """What FMNIST_ISA asks for: no more than "avx2", no more than "avx512" (no AMX), or "" for all there is."""
    asked = os.environ.get("FMNIST_ISA", "")
    if asked not in ("", "avx2", "avx512"):
        raise UserError(f"FMNIST_ISA must be avx2 or avx512, got {asked!r}")
    return asked


def processor() -> str:
    """The name of the processor, where the system tells it; else its kind."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as listed:
        for line in listed:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def load(name: str) -> Any:
    """A compiled library of this package, or None where it was not compiled."""
    found = importlib.util.find_spec(f"fmnist.speed.{name}")
    if found is None or found.origin is None:
        log.debug(f"fmnist/speed/{name} is not compiled")
        return None
    try:
        return ctypes.CDLL(found.origin)  # it finds torch's OpenMP, which is loaded
    except OSError as error:
        log.debug(f"fmnist/speed/{name}: {error}")
        return None


@functools.cache
def library() -> Any:
    """The library for this processor, or None."""
    able = torch.backends.cpu.get_cpu_capability()
    if platform.machine() in ("x86_64", "AMD64"):
        if able not in ("AVX2", "AVX512"):
            return None
        compiled = load("_native_avx2" if able == "AVX2" or isa() == "avx2" else "_native_avx512")
    else:
        compiled = load("_native")
    if compiled is not None:
        compiled.run.argtypes, compiled.run.restype = [ctypes.c_void_p, ctypes.c_long], None
    return compiled


class Program:
    """Instructions that are done by one call, and the tensors that they must find where they were."""

    def __init__(self, instructions: Sequence[Instruction], tensors: Sequence[Tensor]) -> None:
        self.list, self.tensors = (Instruction * len(instructions))(*instructions), tensors
        self.at, self.run = ctypes.addressof(self.list), library().run

    def __call__(self) -> None:
        self.run(self.at, len(self.list))


def of_images(a: Tensor, images: Tensor, out: Tensor, along_pixels: bool, add: bool) -> Instruction:
    """out = a @ images.mT / 255 (along_pixels) or a @ images / 255, or out += that.

    a: (runs, n, m) float32. images: uint8 (images, pixels), which all runs share, or (runs, images, pixels). out:
    (runs, n, columns). All are contiguous, but for the steps from run to run and from image to image.
    """
    runs, n, depth = a.shape
    run_step = images.stride(0) if images.dim() == 3 else 0
    found = Instruction(CODES["multiply_images"], 1, 0, along_pixels, runs, n, out.shape[-1], depth, add)
    found.operand[0] = Operand(out.data_ptr(), n * out.shape[-1], out.shape[-1], 1)
    found.operand[1] = Operand(a.data_ptr(), n * depth, depth, 0)
    found.operand[2] = Operand(images.data_ptr(), run_step, 0, images.stride(-2))
    return found


def multiply_images(a: Tensor, images: Tensor, out: Tensor, along_pixels: bool, add: bool) -> None:
    """Do what `of_images` describes."""
    Program([of_images(a, images, out, along_pixels, add)], ())()


def evaluated(multiply: Callable[..., None], a: Tensor, images: Tensor) -> Tensor:
    """a @ images.mT / 255, (*runs, n, images), of a (*runs, n, m) and uint8 images: (*runs, images, m), or (images, m)
    for all runs; by a function such as `multiply_images`, or by autograd where that is asked for."""
    if a.dtype != torch.float32 or a.device.type != "cpu" or torch.is_grad_enabled():
        return product_with_images(a, images)
    by_run = a.reshape(-1, *a.shape[-2:]).contiguous()
    out = torch.empty(*by_run.shape[:-1], images.shape[-2])
    pixels = images if images.dim() == 2 else images.reshape(-1, *images.shape[-2:])
    multiply(by_run, pixels, out, along_pixels=True, add=False)
    return out.view(*a.shape[:-1], -1)


def product(a: Tensor, images: Tensor) -> Tensor:
    """See `evaluated`. Black pixels are skipped."""
    return product_with_images(a, images) if library() is None else evaluated(multiply_images, a, images)
