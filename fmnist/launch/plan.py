"""How a sweep is to be trained: in which stacks, by how many workers with how many threads. No torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fmnist.config.schema import Config
from fmnist.launch.costs import PROCESS, SPEED, START, aside, beside, bound, data_memory, memory, steps, work
from fmnist.launch.groups import cut, groups, stacks
from fmnist.launch.machine import USED, Machine
from fmnist.launch.trouble import Unmeasured
from fmnist.program.progress import duration
from fmnist.report.words import counted

LARGEST = 16  # runs in a stack of a CPU: beyond, nothing is gained
ENOUGH = 5e10  # multiply-adds in a step: beyond, the products take nearly all of its time and company gains nothing
STACK = 8  # runs in a stack of a CPU, where nothing is measured
WORTH = 8.0  # seconds of training, by that speed, from which on measuring is worth its time
CUDA = 50  # times as fast as a core that a cuda device is taken to be

# Seconds that a step of a stack takes while so many workers with so many threads do the same: the slowest's.
Pace = Callable[[Sequence[Config], int, int], float]


@dataclass(frozen=True)
class Plan:
    """How a sweep is to be trained.

    stacks: places of configs, the first ones first. threads: of each worker, None: as torch chooses. seconds, bytes:
    what it should take of time and memory. measured: whether the time rests on a measurement; why_not: the trouble that
    kept it from being made. paces: what was measured, in words.
    """

    stacks: list[list[int]]
    workers: int
    threads: int | None
    seconds: float
    bytes: float
    measured: bool = False
    why_not: str = ""
    paces: Sequence[str] = ()

    def __str__(self) -> str:
        sizes = [len(stack) for stack in self.stacks]
        runs, worker = counted(sum(sizes), "run"), counted(self.workers, "worker")
        size = f"{min(sizes)} to {max(sizes)}" if min(sizes) < max(sizes) else f"{max(sizes)}"
        stacked = f" in {counted(len(sizes), 'stack')} of {size}" if max(sizes) > 1 else ""
        threads = f"{counted(self.threads, 'thread')} each" if self.threads else "one for each cuda device"
        estimate = f"about {duration(self.seconds)} and {self.bytes / 1e9:.1f} GB"
        how = "" if self.measured else f" (not measured{self.why_not and ': ' + self.why_not})"
        return f"{runs}{stacked}, {worker}, {threads}: {estimate}{how}"


def wants_cuda(configs: Sequence[Config]) -> bool:
    """Whether any of these runs would use a cuda device where there is one."""
    return any(config.device != "cpu" for config in configs)


def plan(
    configs: Sequence[Config], machine: Machine, workers: int | None = None, stack: int | None = None,
    pace: Pace | None = None, tasks: int | None = None, begun: Sequence[int] | None = None,
) -> Plan:  # fmt: skip
    """Choose what a sweep of these configs is trained by.

    On cuda each device gets one worker and as large stacks as may be. On a CPU stack sizes and the sharing of the cores
    are decided by trying some steps of each large group, all workers at once: which is best depends on the shapes of
    the products and on the machine. workers, stack: what the user has chosen already. pace: measures; None: nothing is
    measured. tasks: the most stacks that train at a time where each has such a machine to itself; None: all workers
    share one. begun: epochs that each run has behind it.
    """
    jobs, cuda = len(configs), bool(machine.devices) and wants_cuda(configs)
    found = groups(configs)
    shares = [max(0, c.last_epoch - b) / c.epochs for c, b in zip(configs, begun or [0] * jobs, strict=True)]
    works = [sum(work(configs[run]) * shares[run] for run in group) for group in found]
    base = PROCESS + max(map(data_memory, configs))
    count = min(workers or (1 if tasks else _most(configs, machine, cuda)), jobs)
    choice = _Choice(count, [stack or (jobs if cuda else STACK)] * len(found))
    if pace and not cuda and jobs > 1 and sum(works) / (SPEED * machine.cores) > WORTH:
        counts = [count] if workers else _halves(count)
        of_groups = [[configs[run] for run in group] for group in found]
        _measure(choice, of_groups, works, machine.cores, pace, counts, stack)
    share = machine.memory * USED / (1 if tasks else choice.workers)
    room = math.inf if cuda else share - base  # a device halves what does not fit it
    all_stacks = stacks(configs, found, choice.sizes, choice.workers, max(room, 1.0))
    busy = min(tasks or choice.workers, len(all_stacks))
    speed = SPEED * (CUDA * busy if cuda else machine.cores * (busy if tasks else 1))
    seconds = START + aside(configs, len(all_stacks), busy)
    for place, group in enumerate(found):
        in_all = works[place] + sum(bound(configs[run]) for run in group)
        seconds += in_all / (choice.speeds.get(place) or speed)
    timed = {run for place in choice.speeds for run in found[place]}  # what is measured has all in it
    firsts = [stack[0] for stack in all_stacks if stack[0] not in timed and not cuda]
    seconds += sum(beside(configs[run]) * shares[run] for run in firsts) / busy
    largest = max(sum(memory(configs[run]) for run in one) for one in all_stacks)
    threads = None if cuda else max(1, machine.cores // (1 if tasks else busy))
    measured = bool(choice.speeds)
    return Plan(all_stacks, busy, threads, seconds, busy * (base + largest), measured, choice.why_not, choice.paces)


def _most(configs: Sequence[Config], machine: Machine, cuda: bool) -> int:
    """The most workers that make sense: one for each device; on a CPU as many as the machine has room for."""
    if cuda:  # a device that is named is meant, not one of ours
        return 1 if any(":" in config.device for config in configs) else machine.devices
    return machine.workers(PROCESS + max(data_memory(config) + memory(config) for config in configs))


@dataclass
class _Choice:
    """workers; sizes: of the stacks of each group; speeds: multiply-adds a second of all workers, by the places of the
    groups for which they were measured; why_not and paces as in Plan."""

    workers: int
    sizes: list[int]
    speeds: dict[int, float] = field(default_factory=dict)
    why_not: str = ""
    paces: list[str] = field(default_factory=list)


def _measure(
    choice: _Choice, found: Sequence[Sequence[Config]], works: Sequence[float], cores: int, pace: Pace,
    counts: Sequence[int], stack: int | None,
) -> None:  # fmt: skip
    """Choose by measurement: the largest group decides on the workers, each large one on its own stacks."""
    runs = sum(map(len, found))
    for place, group in enumerate(found):
        if place and works[place] / choice.speeds.get(0, SPEED * cores) <= WORTH:
            continue
        trial = _Trial(group, runs, cores, pace)
        try:
            best = trial.fastest([choice.workers] if place else counts, stack)
        except Unmeasured as trouble:  # training will tell what it is, by the names of the runs
            choice.why_not = str(trouble)
            continue
        choice.paces += trial.paces
        choice.workers, choice.sizes[place], choice.speeds[place] = best.workers, best.size, best.rate * _step(group)


def _step(group: Sequence[Config]) -> float:
    """Multiply-adds of one step of one run."""
    return max(1.0, work(group[0]) / max(1, steps(group[0])))


@dataclass(frozen=True)
class _Rate:
    """workers with stacks of `size` runs take `rate` steps of single runs a second."""

    workers: int
    size: int
    rate: float


class _Trial:
    """Measurements of one group. runs: of the whole sweep. paces: what was measured, in words."""

    def __init__(self, group: Sequence[Config], runs: int, cores: int, pace: Pace) -> None:
        self.group, self.runs, self.cores, self.pace = group, runs, cores, pace
        self.paces: list[str] = []
        self.too_large = Unmeasured("nothing was tried")

    def fastest(self, counts: Sequence[int], stack: int | None) -> _Rate:
        """How the group is trained fastest, by any of these numbers of workers. Raises Unmeasured if nothing fits."""
        best: _Rate | None = None
        for count in counts:
            rates = self._rates(count, stack)
            if not rates:
                continue
            top = max(rates.values())
            size = max(size for size, rate in rates.items() if rate >= 0.97 * top)  # fewer stacks are less work around
            self.paces.append(f"{count} x {size}: {1e6 / rates[size]:.0f}")
            if best and rates[size] < 1.05 * best.rate:  # in doubt many processes: they share the work around the steps
                break
            best = _Rate(count, size, rates[size])
        if best is None:
            raise self.too_large
        return best

    def _rates(self, count: int, stack: int | None) -> dict[int, float]:
        """Steps of single runs a second that so many workers take, by the size of their stacks."""
        top = min(stack or len(self.group), math.ceil(self.runs / count), len(self.group))
        most = min(top, LARGEST, max(1, int(ENOUGH / _step(self.group))))
        rates: dict[int, float] = {}
        for size in [top] if stack else _halves(most):
            alone = len(self.group) == self.runs  # else other groups keep idle workers busy
            busy = self.runs / _most_for_one(self.runs, size, count) if alone else count
            try:
                seconds = self.pace(self.group[:size], count, max(1, self.cores // count))
            except Unmeasured as trouble:
                if not trouble.too_large:
                    raise
                self.too_large = trouble  # a smaller one may fit
                continue
            rates[size] = busy * size / max(seconds, 1e-9)
            if rates[size] < max(rates.values()):  # still smaller ones would not be faster
                break
        return rates


def _most_for_one(runs: int, size: int, workers: int) -> int:
    """Runs that the busiest of the workers gets of one group."""
    loads = [0] * workers
    for one in sorted(cut(range(runs), size, workers), key=len, reverse=True):
        loads[loads.index(min(loads))] += len(one)
    return max(loads)


def _halves(size: int) -> list[int]:
    return [size] if size == 1 else [size, *_halves(math.ceil(size / 2))]
