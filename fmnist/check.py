"""`python -m fmnist.check`: what this machine and this installation can do, and what is wrong with them."""

import argparse
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fmnist import UserError
from fmnist.config.parse import parse
from fmnist.config.schema import Config
from fmnist.launch.machine import available, cores, set_threads
from fmnist.program.output import printable, run_command
from fmnist.program.packages import packages
from fmnist.program.reading import memory
from fmnist.sources import present, sums

SETS = ("avx2", "fma", "avx512f", "avx512bw", "avx512vbmi", "avx512_bf16", "amx_tile", "amx_int8", "asimd", "sve")
LEAST = 1 << 30  # bytes that should be free
NEAR = 1e-4  # how far two gradients in float32 may be apart, in units of the largest element
ROWS, EPOCHS = 2000, 4  # of the self-test
Facts = dict[str, Any]


@dataclass
class Found:
    """What was found: facts by section; what is broken and what could be better, each a line that says what to do."""

    facts: dict[str, Facts] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def gibibytes(count: float) -> str:
    """A number of bytes for a person."""
    return f"{count / (1 << 30):.1f} GiB"


def machine(found: Found) -> Facts:
    """Processor, cores and memory."""
    from fmnist.speed.native import processor

    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = ""
    flags = set(re.sub(r"^(?!flags|Features).*$", "", told, flags=re.MULTILINE).split())
    free, load = available(), os.getloadavg()[0]
    if load > cores() + 1:
        found.notes.append(f"machine: other work keeps it busy (load {load:.1f}, {cores()} cores): all takes longer")
    if free < LEAST:
        found.notes.append(
            f"machine: {gibibytes(free)} of memory is free: end other programs, or choose smaller stacks"
        )
    return {
        "system": platform.platform(), "processor": processor(),
        "instructions": " ".join(name for name in SETS if name in flags) or "unknown",
        "cores": f"{cores()} of {os.cpu_count()} may be used", "load": f"{load:.1f}",
        "memory": f"{gibibytes(free)} free of {gibibytes(memory())}",
    }  # fmt: skip


def libraries(found: Found) -> Facts:
    """See fmnist.speed.described."""
    from fmnist.speed import described

    return described.libraries(found.notes)


def kernels(found: Found) -> Facts:
    """See fmnist.speed.described."""
    from fmnist.speed import described

    return described.kernels()


def data(found: Found) -> Facts:
    """Fashion-MNIST: where it is, and whether its bytes are the right ones."""
    facts: Facts = {}
    for folder in present.places():
        try:
            facts[str(folder)] = (
                "complete, verified by SHA-256" if present.whole(folder) else "incomplete, or not there"
            )
        except UserError as error:
            facts[str(folder)] = "damaged"
            found.broken.append(f"data: {error}: remove that file, and `{sys.executable} -m fmnist.data` fetches it")
    if not any(str(fact).startswith("complete") for fact in facts.values()):
        found.notes.append(f"data: Fashion-MNIST is not here: `{sys.executable} -m fmnist.data` fetches it, as "
                           "does the first training")  # fmt: skip
    return facts


def graphics(found: Found) -> Facts:
    """The GPUs that torch sees."""
    import torch

    facts: Facts = {"torch is built for": f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"}
    for number in range(torch.cuda.device_count()):
        has = torch.cuda.get_device_properties(number)
        graphs = "not used: FMNIST_CUDA_GRAPHS=0" if os.environ.get("FMNIST_CUDA_GRAPHS") == "0" else "used"
        facts[f"cuda:{number}"] = (f"{has.name}, {gibibytes(has.total_memory)}, capability {has.major}.{has.minor}, "
                                   f"CUDA graphs {graphs}")  # fmt: skip
    if not torch.cuda.device_count():
        facts["GPU"] = "none"
        if shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists():
            found.notes.append("GPU: the system has one that torch does not see: `nvidia-smi` tells of the driver, "
                               "https://pytorch.org/get-started names the torch that fits it")  # fmt: skip
    return facts


def disk(found: Found) -> Facts:
    """Where runs and sums are written: the free space, and whether a file can be written."""
    cache, facts = sums.place(), {}
    other = "hydra.run.dir=DIR and hydra.sweep.dir=DIR write elsewhere"
    places = (
        ("outputs", Path("outputs").absolute(), other),
        ("cache", cache and cache.parent, "sums of files are computed at each start"),
        ("temporary", Path(tempfile.gettempdir()), "TMPDIR names another folder"),
    )
    for name, folder, remedy in places:
        if folder is None:
            facts[name] = "none"
            continue
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(there).free
        try:
            with tempfile.TemporaryFile(dir=there) as file:
                file.write(bytes(1 << 20))
                file.flush()
                os.fsync(file.fileno())
            facts[name] = f"{folder}, {gibibytes(free)} free, a file was written"
        except OSError as error:
            facts[name] = f"{folder}, {gibibytes(free)} free, no file can be written: {error.strerror}"
            lines = found.notes if name == "cache" else found.broken
            lines.append(f"disk: no file can be written in {there} ({error.strerror}): {remedy}")
        if name == "outputs" and free < LEAST:
            found.notes.append(f"disk: {gibibytes(free)} is free in {there}: make room, or {other}")
    return facts


def tensorboard(found: Found) -> Facts:
    """Whether TensorBoard can be started."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own parts, about one another
            importlib.import_module("tensorboard.program")
    except Exception as error:  # whatever its own imports meet
        found.broken.append(f"TensorBoard cannot be imported ({type(error).__name__}: {error}): "
                            f"{sys.executable} -m pip install tensorboard")  # fmt: skip
        return {"TensorBoard": "cannot be imported"}
    return {"TensorBoard": f"{importlib.metadata.version('tensorboard')} can be imported"}


def same_gradient(config: Config) -> tuple[float, Facts]:
    """How far the fast step's first gradient is from that of autograd, in units of the largest element; and by each,
    images a second."""
    from fmnist.nn.step import Step
    from fmnist.train.restore import assemble

    fast, slow = assemble([config]), assemble([config])
    slow.step = Step(slow.model, slow.criterion, slow.optimizer, config.precision)
    rates: Facts = {}
    for name, stack in (("fast step", fast), ("autograd", slow)):
        stack.start_noise(1)
        stack.step.gradient(next(iter(stack.feed.epoch(1))))
        gradient = stack.optimizer.flat.grad.clone()
        if name == "fast step":
            first = gradient
        stack.train_epoch(1)
        clock = time.perf_counter()
        stack.train_epoch(2)  # its metrics wait for the device
        rates[f"images a second, {name}"] = f"{len(stack.feed.labels) / (time.perf_counter() - clock):,.0f}"
    return float((first - gradient).abs().max() / gradient.abs().max()), rates


def self_test(found: Found) -> Facts:
    """A short training: its step against autograd; a checkpoint that is written, read and gone on from, bit for bit."""
    from fmnist.program.packing import packed
    from fmnist.record import checkpoint
    from fmnist.train.engine import Audience, fit

    quiet = logging.getLogger("fmnist.check")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    bar = SimpleNamespace(update=lambda: None)
    with tempfile.TemporaryDirectory() as scratch:
        real = present.place()
        source = real or present.made_up(Path(scratch), ROWS)
        given = {"model": {"name": "mlp"}, "optim": {"name": "adam"}, "epochs": EPOCHS,
                 "data": {"name": "idx", "dir": str(source), "limit": ROWS}}  # fmt: skip
        runs = []
        for name, parts in (("at once", (None,)), ("in two parts", (0.5, None))):
            runs.append(Path(scratch, name))
            runs[-1].mkdir()
            for part in parts:
                (outcome,) = fit([parse(given | {"until": part})], runs[-1:], [quiet],
                                 Audience(bar=lambda *_: nullcontext(bar)))  # fmt: skip
        states = [checkpoint.load(directory / "last.safetensors") | {"seconds": 0} for directory in runs]
        apart, rates = same_gradient(parse(given))
    if not apart <= NEAR:  # it may be nan
        found.broken.append(f"self-test: the fast step's gradient is {apart:.1g} apart from autograd's, at most "
                            f"{NEAR:g} is rounding: report it with this output")  # fmt: skip
    if not (same := packed(states[0]) == packed(states[1])):
        found.broken.append("self-test: a run that went on from its checkpoint is not the run at once: report it with "
                            "this output")  # fmt: skip
    if outcome.error:
        found.broken.append(f"self-test: training failed: {outcome.error}: report it with this output")
    return {
        "data": f"{ROWS:,} images {'of Fashion-MNIST' if real else 'made up'}", "model": "784-300-100-10, float32",
        "test accuracy": f"{outcome.metrics.get('test/accuracy', 0):.3f} after {EPOCHS} epochs",
        "fast step against autograd": f"gradients {apart:.1g} apart",
        "resumed from a checkpoint": "the same bits" if same else "other bits", **rates,
    }  # fmt: skip


SECTIONS: dict[str, Callable[[Found], Facts]] = {
    "machine": machine, "versions": lambda found: packages(found.broken, found.notes), "GPU": graphics,
    "libraries": libraries, "kernels": kernels, "data": data, "disk": disk, "TensorBoard": tensorboard,
    "self-test": self_test,
}  # fmt: skip


def examine(sections: Iterable[str], show: Callable[[str, Facts], None] = lambda name, facts: None) -> Found:
    """Look at all sections; show is called after each. What cannot be looked at is broken, and the others go on."""
    found = Found()
    for name in sections:
        try:
            found.facts[name] = SECTIONS[name](found)
        except Exception as error:  # whatever a broken installation raises
            found.facts[name] = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
            found.broken.append(f"{name}: {found.facts[name]['failed']}: report it with this output")
        show(name, found.facts[name])
    return found


def in_words(name: str, facts: Facts) -> None:
    """Print a section."""
    print(f"{name}")
    for key, value in facts.items():
        print(f"  {printable(key):26}  {printable(str(value))}", flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.check",
        description="What this machine and this installation can do, with a self-test of some seconds.\n"
        "What is wrong has a line each, with what to do. The status is 1 where something is broken.\n"
        "For a bug report: paste all.",
        epilog="examples:\n  python -m fmnist.check\n  python -m fmnist.check --quick     without the self-test\n"
        "  python -m fmnist.check --json > check.json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="leave out the self-test")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    given = parser.parse_args()
    set_threads()  # before torch is imported
    sections = (name for name in SECTIONS if not (given.quick and name == "self-test"))
    found = examine(sections, (lambda name, facts: None) if given.json else in_words)
    if given.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        print("\n".join(["", *(printable(f"broken: {line}") for line in found.broken),
                         *(printable(f"note: {line}") for line in found.notes)]))  # fmt: skip
        print("something is broken" if found.broken else "all is well")
    return int(bool(found.broken))


if __name__ == "__main__":
    run_command(main)
