"""When a sweep will have ended: by the pace of its stacks so far, and by who trains the stacks that wait."""

import heapq
import itertools
import statistics
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from fmnist.program.progress import Pace


@dataclass(eq=False)
class Part:
    """Runs that train as one stack. kind: those of one kind take the same time for the same work; work: of an epoch,
    in any unit."""

    runs: Sequence[int]
    kind: str
    work: float
    pace: Pace = field(default_factory=Pace)


@dataclass(eq=False)
class Stack:
    """Runs that a worker is given together. It trains the parts one after another. began, first, last: when it was
    given them, and when an epoch was done for the first and the last time."""

    parts: list[Part]
    began: float = 0.0
    first: float | None = None
    last: float | None = None

    @property
    def runs(self) -> list[int]:
        """All of them, in order."""
        return sorted(run for part in self.parts for run in part.runs)


class Estimate:
    """Stacks that wait, that train and that have ended.

    left_of: the epochs that a run still has to train. making: makes the parts of which a stack of these runs consists.
    """

    def __init__(self, left_of: Callable[[int], int], making: Callable[[Sequence[int]], list[Part]]) -> None:
        self.left_of, self.making = left_of, making
        self.workers = 1
        self.waiting: list[Stack] = []
        self.training: dict[Hashable, Stack] = {}  # by worker
        self.numbers: dict[Hashable, int] = {}  # of the workers, from 1
        self.served = set[Hashable]()  # workers that have trained a stack
        self.seen: list[Part] = []  # those of which an epoch was done
        self.starts: list[float] = []  # seconds beside the epochs, before and after them, of stacks that have ended
        self.ends: list[float] = []

    def planned(self, stacks: Sequence[Sequence[int]], workers: int) -> None:
        """These stacks wait, for so many workers; the first ones come first."""
        self.workers = workers
        self.waiting = [Stack(self.making(runs)) for runs in stacks]

    def handed(self, worker: Hashable, runs: Sequence[int], now: float) -> None:
        """A worker is given a stack."""
        wanted = sorted(runs)
        found = next((each for each in self.waiting if each.runs == wanted), None)
        if found:
            self.waiting.remove(found)
        self.training[worker] = found or Stack(self.making(runs))
        self.training[worker].began = now
        taken = set(self.numbers.values())
        self.numbers.setdefault(worker, next(number for number in itertools.count(1) if number not in taken))

    def reached(self, runs: Sequence[int], epoch: int, now: float) -> None:
        """These runs, which train as one stack, have trained that epoch. A stack that waits is with a worker then, of
        which nobody has told."""
        for stack in self.waiting:
            if set(runs) <= set(stack.runs):
                self.handed(tuple(stack.runs), stack.runs, now)
                break
        for stack in self.training.values():
            for part in stack.parts:
                if set(runs) <= set(part.runs):
                    stack.first, stack.last = stack.first or now, now
                    part.pace.note(epoch, now)
                    if part not in self.seen:
                        self.seen.append(part)

    def halved(self, runs: Sequence[int]) -> None:
        """These runs, which trained as one stack, are to train in two: with the same worker or, where that has
        ended, after all others."""
        halves = [Part(half, *self._like(half)) for half in (runs[: len(runs) // 2], runs[len(runs) // 2 :])]
        for stack in self.training.values():
            if set(runs) <= set(stack.runs):
                stack.parts = [part for part in stack.parts if not set(part.runs) & set(runs)] + halves
                return
        self.waiting += [Stack([half]) for half in halves]

    def _like(self, runs: Sequence[int]) -> tuple[str, float]:
        made = self.making(runs)
        return made[0].kind, sum(part.work for part in made)

    def returned(self, worker: Hashable, now: float, gone: bool = False) -> None:
        """A worker trains no more of its stack. gone: nor of any other."""
        if gone:
            self.numbers.pop(worker, None)
        stack = self.training.pop(worker, None)
        if stack is None:
            return
        seen = [part for part in stack.parts if part in self.seen]
        if seen and stack.first is not None and stack.last is not None:
            self.ends.append(now - stack.last)
            if worker in self.served:  # the first stack of a worker waits until it has started
                self.starts.append(max(0.0, stack.first - stack.began - self._seconds(seen[0])))
        self.served.add(worker)

    def left(self, now: float) -> float | None:
        """Seconds until all have ended; None before an epoch was timed."""
        if not any(part.pace.seconds for part in self.seen):
            return None
        free = [self.left_of_stack(stack, now) or 0.0 for stack in self.training.values()]
        free += [0.0] * (self.workers - len(free))
        heapq.heapify(free)
        for stack in self.waiting:
            heapq.heapreplace(free, free[0] + self._whole(stack))
        return max(free)

    def left_of_stack(self, stack: Stack, now: float) -> float | None:
        """Seconds until a stack that trains has ended; None before an epoch was timed."""
        if not any(part.pace.seconds for part in self.seen):
            return None
        seconds = self._epochs(stack)
        if stack.last is not None:
            seconds -= min(now - stack.last, seconds)
        return max(0.0, seconds) + _middle(self.ends)

    def _whole(self, stack: Stack) -> float:
        return _middle(self.starts) + self._epochs(stack) + _middle(self.ends)

    def _epochs(self, stack: Stack) -> float:
        """Seconds of the epochs that a stack still has to train: a part trains as long as any of its runs."""
        lefts = [max(map(self.left_of, part.runs)) for part in stack.parts]
        return sum(left * self._seconds(part) for left, part in zip(lefts, stack.parts, strict=True) if left)

    def _seconds(self, part: Part) -> float:
        """Of an epoch: the part's own where that is known, else by others, those most like it first."""
        if part.pace.seconds is not None:
            return part.pace.seconds
        known = [each for each in self.seen if each.pace.seconds is not None]
        alike = [each for each in known if each.kind == part.kind] or known
        alike = [each for each in alike if len(each.runs) == len(part.runs)] or alike
        work = sum(each.work for each in alike)
        return part.work * sum(each.pace.seconds or 0.0 for each in alike) / work if work else 0.0


def _middle(seconds: Sequence[float]) -> float:
    return statistics.median(seconds[-16:]) if seconds else 0.0
