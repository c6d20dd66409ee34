"""What of this package serves on this machine, and why, in words: for `python -m fmnist.check`."""

import importlib.util
import os
import platform
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import torch

from fmnist import ROOT
from fmnist.speed import integers, native
from fmnist.speed.kernels import FLOAT32_ERROR, LIMITS, Kernels, bfloat16_is_emulated, choose, medium_error

LIBRARIES = ("_native_avx512", "_native_avx2", "_native", "_integers")
ROWS, BLACK = 128, 0.5  # of a batch of Fashion-MNIST: rows, and the share of black pixels
BUILD = f"{sys.executable} -m pip install --editable '{ROOT}' compiles them"


def _stem(library: Any) -> str:
    """The name of a library that is loaded, as LIBRARIES has it."""
    return Path(library._name).name.partition(".")[0]


def kernels() -> dict[str, str]:
    """The kernels that training would use here, and why."""
    cpu, able = torch.device("cpu"), torch.backends.cpu.get_cpu_capability()
    chosen = choose(cpu, "float32", ROWS, BLACK) or Kernels()
    asked = {name: os.environ[name] for name in (*LIMITS, "ATEN_CPU_CAPABILITY") if os.environ.get(name)}
    no_amx = "hidden by FMNIST_ISA" if native.isa() else "no AMX, or not compiled"
    images = (
        "whole grey levels, three int8 products of AMX for one of float32" if chosen.integers else
        f"black pixels are skipped: half of Fashion-MNIST's are black, and 30 % are enough (whole levels: {no_amx})"
        if chosen.black else "torch's own: no native library serves here"
    )  # fmt: skip
    error = medium_error()
    if chosen.wide == "medium":
        wide = f"oneDNN: it computes in float32 here (error {error:.0e})"
    elif error > FLOAT32_ERROR:
        wide = f"torch's own: oneDNN rounds to bfloat16 here (error {error:.0e})"
    else:
        wide = f"torch's own: oneDNN gains with AVX512 alone, here is {native.isa() or able}"
    half = choose(cpu, "bfloat16", ROWS, BLACK)
    slow = "emulated: many times slower than float32" if bfloat16_is_emulated(cpu) else "by autograd, autocast"
    return {
        "torch uses": f"{able}, {torch.get_num_threads()} threads",
        "products with images": images,
        "large products": wide,
        "other operations": f"{_stem(native.library())}, in programs" if chosen.programs else "torch's own",
        "precision=bfloat16": "on the tape, by AMX" if half else slow,
        "precision=float64": "on the tape, torch's own operations",
        "AMX": "used" if integers.library() else "not used",
        "limited by": " ".join(f"{name}={value}" for name, value in asked.items()) or "nothing",
    }


def compiled_by(file: Path) -> str:
    """The compiler of a library and its flags, as it has noted them in the file; else those of pyproject.toml."""
    content = file.read_bytes()
    if noted := re.search(rb"(GNU C\d+|clang version) [ -~]+", content):
        return noted[0].decode()
    compiler = re.search(rb"GCC: [ -~]+", content)
    asked: list[str] = []
    if (project := ROOT / "pyproject.toml").exists():
        modules = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["setuptools"]["ext-modules"]
        asked = next((m["extra-compile-args"] for m in modules if m["name"].endswith(file.name.partition(".")[0])), [])
    return f"{compiler[0].decode() if compiler else 'unknown'}, asked for {' '.join(asked)}"


def libraries(notes: list[str]) -> dict[str, str]:
    """The libraries of fmnist/speed that a C compiler makes."""
    facts: dict[str, str] = {}
    here = Path(native.__file__).parent
    newest = max((path.stat().st_mtime for path in here.rglob("*.[ch]")), default=0.0)
    for name in LIBRARIES:
        spec = importlib.util.find_spec(f"fmnist.speed.{name}")
        if spec is None or spec.origin is None:
            facts[name] = "missing"
            continue
        file = Path(spec.origin)
        loads = native.load(name) is not None
        facts[name] = f"{'loads' if loads else 'does not load'}; {compiled_by(file)}"
        if not loads:
            notes.append(f"libraries: {file} does not load, torch does its work: {BUILD}")
        elif file.stat().st_mtime < newest:
            notes.append(f"libraries: {file.name} is older than its sources: {BUILD}")
    own = native.library()
    facts["used here"] = _stem(own) if own else "none"
    if own is None and (
        platform.machine() not in ("x86_64", "AMD64") or torch.backends.cpu.get_cpu_capability() != "DEFAULT"
    ):
        compiler = shutil.which(os.environ.get("CC", "cc"))
        first = "" if compiler else "there is no C compiler, `apt-get install gcc libc6-dev` brings one; "
        notes.append("libraries: the native one is missing: torch does its work, with the same results up to "
                           f"rounding and slower (compare the speeds of the self-test): {first}{BUILD}")  # fmt: skip
    return facts
