"""How a sweep is to be trained: in which stacks, by how many workers with how many threads. No torch."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist.config.schema import Config
from fmnist.launch.costs import PROCESS, SPEED, START, data_memory, duration, memory, steps, work
from fmnist.launch.groups import cut, groups, stacks
from fmnist.launch.pool import Workers, cores

LARGEST = 16  # runs in a stack of a CPU: beyond, nothing is gained
ENOUGH = 5e10  # multiply-adds in a step: beyond, the products take nearly all of its time and company gains nothing
STACK = 8  # runs in a stack of a CPU, where nothing is measured
WORTH = 8.0  # seconds of training, by that speed, from which on measuring is worth its time
TRIAL = 0.08  # seconds of steps in one measurement


@dataclass(frozen=True)
class Plan:
    """stacks: places of configs, the first ones first; threads: of each worker, None: as torch chooses; seconds, bytes:
    what it should take of time and memory; why: how it was chosen."""

    stacks: list[list[int]]
    workers: int
    threads: int | None
    devices: int
    seconds: float
    bytes: float
    why: str

    def __str__(self) -> str:
        sizes = [len(stack) for stack in self.stacks]
        size = f"{min(sizes)} to {max(sizes)}" if min(sizes) < max(sizes) else f"{max(sizes)}"
        where = f"{self.threads} threads" if self.threads else f"{self.devices} cuda devices"
        return (
            f"{sum(sizes)} runs in {len(sizes)} stacks of {size}, {self.workers} workers with {where}"
            f" ({self.why}); about {duration(self.seconds)} and {self.bytes / 1e9:.1f} GB"
        )


def plan(configs: Sequence[Config], pool: Workers, workers: int | None = None, stack: int | None = None) -> Plan:
    """Choose what a sweep of these configs is trained by; workers, stack: what the user has chosen already.

    On cuda each device gets one worker and as large stacks as may be. On a CPU stack sizes and the sharing of the cores
    are decided by trying some steps of the largest group, all workers at once: which is best depends on the
    shapes of the products and on the machine.
    """
    asked = {config.device.partition(":")[0] for config in configs}
    devices = 0 if asked == {"cpu"} else pool.cuda_devices()
    if devices:
        return _on_cuda(configs, devices, workers, stack)
    return _on_cpu(configs, pool, workers, stack)


def _on_cuda(configs: Sequence[Config], devices: int, workers: int | None, stack: int | None) -> Plan:
    fixed = any(":" in config.device for config in configs)  # then that device is meant, not one of ours
    count = min(workers or (1 if fixed else devices), len(configs))
    pieces = stacks(configs, stack or len(configs), count, math.inf)  # a stack too large for a device is halved there
    total = sum(work(config) for config in configs)
    seconds = START + total / (SPEED * 50 * count)
    return Plan(pieces, count, None, devices, seconds, _memory(configs, pieces, count), "one for each device")


def _on_cpu(configs: Sequence[Config], pool: Workers, workers: int | None, stack: int | None) -> Plan:
    count = cores()
    free = available() * 0.8
    need = PROCESS + max(data_memory(config) + memory(config) for config in configs)
    most = workers or max(1, min(count, len(configs), int(free / need)))
    most = min(most, len(configs))
    found = [[configs[i] for i in group] for group in groups(configs)]
    works = [sum(map(work, group)) for group in found]
    sizes, speeds, why = [stack or STACK] * len(found), [SPEED * count] * len(found), "not measured"
    if len(configs) > 1 and sum(works) / speeds[0] > WORTH:
        counts = [most] if workers else list(_halves(most))
        best = _fastest(found[0], len(configs), pool, counts, stack)
        most, told = best.workers, best.told
        sizes, speeds = [best.size] * len(found), [best.rate * _step(found[0])] * len(found)
        for place, group in enumerate(found[1:], start=1):
            if works[place] / speeds[place] > WORTH:
                own = _fastest(group, len(configs), pool, [most], stack)
                sizes[place], speeds[place] = own.size, own.rate * _step(group)
                told += own.told
        why = "measured: us a run and step of workers x runs, " + ", ".join(told)
    elif len(configs) == 1:
        why = "one run"
    room = free / most - PROCESS - max(data_memory(config) for config in configs)
    pieces = stacks(configs, sizes, most, max(room, 1.0))
    busy = min(most, len(pieces))
    seconds = START + sum(w / speed for w, speed in zip(works, speeds, strict=True))
    return Plan(pieces, busy, max(1, count // busy), 0, seconds, _memory(configs, pieces, busy), why)


def _step(group: Sequence[Config]) -> float:
    """Multiply-adds of one step of one run."""
    return work(group[0]) / steps(group[0])


@dataclass(frozen=True)
class _Pace:
    """workers with stacks of `size` runs take `rate` steps of single runs a second; told: all that was tried."""

    workers: int
    size: int
    rate: float
    told: list[str]


def _fastest(group: Sequence[Config], runs: int, pool: Workers, counts: Sequence[int], stack: int | None) -> _Pace:
    """How a group is trained fastest, by any of these numbers of workers; runs: of the whole sweep."""
    best, told = _Pace(counts[0], 1, 0.0, []), []
    for count in counts:
        top = min(stack or len(group), math.ceil(runs / count), len(group))
        threads = max(1, cores() // count)
        rates: dict[int, float] = {}
        most = min(top, LARGEST, max(1, int(ENOUGH / _step(group))))
        for size in [top] if stack else _halves(most):
            busy = runs / _most_for_one(runs, size, count) if len(group) == runs else count  # others fill the gaps
            rates[size] = busy * size / pool.pace(group[:size], count, threads, TRIAL)
            if rates[size] < max(rates.values()):  # still smaller ones would not be faster
                break
        size = max(size for size in rates if rates[size] >= 0.97 * max(rates.values()))  # fewer are less work around
        told += [f"{count} x {size}: {1e6 / rate if (rate := rates[size]) else math.inf:.0f}"]
        if rates[size] < 1.05 * best.rate:  # in doubt many processes: they share the work around the steps too
            break
        best = _Pace(count, size, rates[size], told)
    return replace(best, told=told)


def _most_for_one(runs: int, size: int, workers: int) -> int:
    """Runs that the busiest of the workers gets of one group."""
    loads = [0] * workers
    for piece in sorted(cut(range(runs), size, workers), key=len, reverse=True):
        loads[loads.index(min(loads))] += len(piece)
    return max(loads)


def _halves(size: int) -> list[int]:
    return [size] if size == 1 else [size, *_halves(math.ceil(size / 2))]


def _memory(configs: Sequence[Config], pieces: Sequence[Sequence[int]], workers: int) -> float:
    """Bytes of that many workers, each with the most demanding stack."""
    stack = max(sum(memory(configs[run]) for run in piece) for piece in pieces)
    return workers * (PROCESS + max(data_memory(config) for config in configs) + stack)


def available() -> float:
    """Bytes of memory that are free for this process, by the machine and by its control group."""
    free = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = float(line.split()[1]) * 1024
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    return min(free, float(limit) - float(used)) if limit.isdecimal() and used.isdecimal() else free


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
