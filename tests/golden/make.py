"""Curves of small runs, all their digits, on this kind of machine. `python tests/golden/make.py` writes its files anew.

A kind is named by what decides bits beside config and seed: the processor's architecture, vendor and family, the
instructions in use, the version of torch, the compiler of the native library, the number of threads.
"""

import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":  # this checkout, and not the one that is installed
    sys.path[:0] = map(str, (HERE.parents[1], HERE.parent))

import torch  # noqa: E402
from helpers import make_config, rows_of  # noqa: E402

from fmnist.speed import integers, native  # noqa: E402
from fmnist.train.engine import fit  # noqa: E402

SIZE = {"data.limit": 2000, "epochs": 3, "batch_size": 50, "figures": False}
RUNS: dict[str, dict[str, Any]] = {
    "mlp1": {"model.hidden": [200]},
    "mlp2 with dropout": {"model.hidden": [300, 100], "dropout": 0.5},
    "batch norm": {"model.hidden": [64, 32], "norm": "batch"},
    "skip": {"model": "deep", "model.width": 32, "model.depth": 6, "skip": True},
    "autoencoder": {"model": "autoencoder", "model.hidden": [64, 16], "noise": 0.2, "loss": "mse"},
    "vae": {"model": "vae", "model.hidden": [64], "model.latent": 8},
    "adamw": {"model.hidden": [64], "optim": "adamw", "ema": 0.99, "augment": {"shift": 2}},
    "momentum": {"model.hidden": [64], "optim": "sgd", "optim.momentum": 0.9, "lr": 0.01},
    "full batch": {"model.hidden": [64], "batch_size": None, "epochs": 5},
    "float64": {"model.hidden": [64], "precision": "float64"},
}
THREADS = (1, 2)
LIMITS = ("FMNIST_ISA", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")

Curve = list[list[float]]  # the training loss and the validation loss of each epoch


def processor() -> str:
    """Vendor and family of the processor: the libraries of torch choose by them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = "vendor_id|cpu family|CPU implementer|CPU part"
    return " ".join(dict(re.findall(rf"^({names})\s*: (.*)$", text, re.MULTILINE)).values())


def compiler() -> str:
    """What has compiled the native library, as it says itself."""
    library = native.library()
    if library is None:
        return "none"
    found = re.search(rb"(GCC: |clang version )[^\0]*", Path(library._name).read_bytes())
    return found[0].decode("ascii", "replace") if found else "unknown"


def kind(threads: int) -> dict[str, Any]:
    """What decides bits here. limits: variables that forbid instructions."""
    instructions = "AMX" if integers.library() else torch.backends.cpu.get_cpu_capability()
    limits = {name: os.environ[name] for name in LIMITS if os.environ.get(name)}
    return {
        "machine": platform.machine(), "processor": processor(), "instructions": instructions, "limits": limits,
        "torch": torch.__version__, "compiler": compiler(), "threads": threads,
    }  # fmt: skip


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    """Within it torch and the native library compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def curve(name: str, threads: int, folder: Path) -> Curve:
    """Train a run in a folder that is not there; its losses."""
    with with_threads(threads):
        (outcome,) = fit([make_config(**SIZE | RUNS[name])], [folder])
    assert outcome.error is None, outcome.error
    return [[row["train/loss"], row["validation/loss"]] for row in rows_of(folder)]


def kept() -> list[dict[str, Any]]:
    """The contents of all files: kinds with their curves."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(HERE.glob("*.json"))]


def file_of(known: dict[str, Any]) -> Path:
    """Where the curves of a kind are kept: among those of the same kind, or in a file that is not there."""
    words = [known[fact] for fact in ("machine", "processor", "instructions")]
    words += ["limited"] * bool(known["limits"]) + ["torch", known["torch"], "threads", str(known["threads"])]
    name = re.sub(r"[^A-Za-z0-9.]+", "-", " ".join(words))
    names = (HERE / f"{name}{number}.json" for number in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(file for file in names
                if not file.exists() or json.loads(file.read_text(encoding="utf-8"))["kind"] == known)  # fmt: skip


def main() -> None:
    """Write the files of this kind of machine."""
    for threads in THREADS:
        known = kind(threads)
        with tempfile.TemporaryDirectory() as folder:
            curves = {name: curve(name, threads, Path(folder, name)) for name in RUNS}
        file = file_of(known)
        lines = [f"  {json.dumps(name)}: {json.dumps(losses)}" for name, losses in curves.items()]
        text = f'{{"kind": {json.dumps(known)},\n "curves": {{\n' + ",\n".join(lines) + "\n}}\n"
        file.write_text(text, encoding="utf-8", newline="\n")
        print(file)


if __name__ == "__main__":
    main()
