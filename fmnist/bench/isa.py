"""The instruction set of all entrants alike, and the float32 peak of the processor that goes with it."""

import ctypes
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread

from fmnist import UserError
from fmnist.bench.entrants import ENVIRONMENTS

LEVELS = ("native", "avx2", "avx512")
FASTER = 1.1  # times the peak: a product as fast as that is not float32 arithmetic in the instruction set asked for
PEAK = Path(__file__).parent / "peers" / "peak.c"
FLAGS = {"native": "-march=native", "avx2": "-mavx2 -mfma", "avx512": "-mavx512f"}
NEEDS = {"native": set[str](), "avx2": {"avx2", "fma"}, "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"}}
# What each library reads: torch (its own kernels, and the compiler's), oneDNN (in torch, TensorFlow and jaxlib 0.4),
# MKL, XLA, OpenBLAS and NumPy under scikit-learn, LIBXSMM, this project. glibc too: its functions that copy memory.
SETTINGS = {
    "native": dict[str, str](),
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2", "TORCHINDUCTOR_CPP_MARCH": "x86-64-v3", "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2", "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4", "LIBXSMM_TARGET": "hsw", "FMNIST_ISA": "avx2",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512CD,-AVX512DQ",
    },
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512", "TORCHINDUCTOR_CPP_MARCH": "x86-64-v4",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX512_BF16", "OPENBLAS_CORETYPE": "SkylakeX", "LIBXSMM_TARGET": "skx",
        "FMNIST_ISA": "avx512",
    },
}  # fmt: skip
ADDED = ("XLA_FLAGS",)  # variables that are lists: what they hold already stays


def flags() -> set[str]:
    """The names of this processor's abilities, where the system lists them."""
    listed = Path("/proc/cpuinfo")
    return set(listed.read_text(encoding="utf-8", errors="replace").split()) if listed.exists() else set()


@contextmanager
def bound(isa: str) -> Iterator[None]:
    """Programs that are started in the block use no more than this instruction set, as far as their libraries obey.

    Errors: UserError if the processor does not have it.
    """
    if missing := NEEDS[isa] - flags():
        raise UserError(f"--isa {isa}: this processor has no {', '.join(sorted(missing))}")
    settings = dict(SETTINGS[isa])
    if isa != "native":
        settings["TORCHINDUCTOR_CACHE_DIR"] = str(ENVIRONMENTS / f"inductor-{isa}")  # compiled code, by instruction set
        if not {"avx512f"} & flags():
            settings.pop("NPY_DISABLE_CPU_FEATURES", None)  # NumPy warns about what is not there
    before = dict(os.environ)
    for name, value in settings.items():
        os.environ[name] = f"{before[name]} {value}" if name in ADDED and name in before else value
    try:
        yield
    finally:
        for name in settings:
            del os.environ[name]
        os.environ.update(before)


def is_bound(isa: str, gflops: float | None, avx512: bool | None, peak: float | None) -> bool:
    """Whether an entrant kept to an instruction set, by its product's speed and by the registers that it used."""
    too_fast = gflops is not None and peak is not None and gflops > FASTER * peak
    return isa == "native" or not (too_fast or (isa == "avx2" and avx512))


class Processors:
    """What the processors can do: the float32 peak, by a loop of fused multiply-adds in registers; and how far they are
    from one another. A context manager; nothing without a C compiler."""

    def __init__(self, isa: str, threads: int) -> None:
        self.isa, self.threads = isa, threads
        self.best: float | None = None  # the most that they can do, from all that was measured

    def __enter__(self) -> "Processors":
        self.loop = self.hand_over = None
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "peak.so"
            compiler = shlex.split(os.environ.get("CC", "cc"))
            line = [*compiler, "-O3", *FLAGS[self.isa].split(), "-shared", "-fPIC", str(PEAK), "-o", str(library)]
            try:
                subprocess.run(line, capture_output=True, check=True)
                compiled = ctypes.CDLL(str(library))
            except (OSError, subprocess.CalledProcessError):
                return self
        self.loop, self.hand_over = compiled.loop, compiled.hand_over
        self.hand_over.argtypes = [ctypes.c_int, ctypes.c_long]
        self.loop.restype = ctypes.c_double
        self.loop.argtypes = [ctypes.c_long]
        return self

    def gflops(self, times: int = 3, rounds: int = 4_000_000) -> float | None:
        """GFLOP/s of all threads together, now: the best of several. None if there is no loop."""
        if self.loop is None:
            return None
        now = max(_once(self.loop, rounds, self.threads) for _ in range(times))
        alone = _once(self.loop, rounds, 1)  # a host may put both processors on one core, now and then
        self.best = max(now, self.threads * alone, self.best or 0.0)
        return now

    def handover(self, times: int = 50_000) -> float | None:
        """Nanoseconds until a thread sees what a thread on another processor has written, now. None if there is only
        one processor, or no loop."""
        hand_over = self.hand_over
        processors = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else []
        if hand_over is None or len(processors) < 2:
            return None

        def take_turns(me: int) -> None:
            os.sched_setaffinity(0, {processors[me]})  # of this thread alone
            hand_over(me, times)

        return _together([partial(take_turns, 0), partial(take_turns, 1)]) / times / 2 * 1e9

    def __exit__(self, *_: object) -> None:
        self.loop = self.hand_over = None


def _once(loop: "ctypes._NamedFuncPointer", rounds: int, threads: int) -> float:
    """GFLOP/s of so many threads together."""
    done: list[float] = []
    seconds = _together([lambda: done.append(loop(rounds))] * threads)
    return sum(done) / seconds / 1e9


def _together(works: Sequence[Callable[[], object]]) -> float:
    """Seconds that these take, each in a thread of its own."""
    threads = [Thread(target=work) for work in works]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start
