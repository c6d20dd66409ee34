"""The time left of a sweep, by a clock that is simulated: right within a fifth once a tenth of the time has passed."""

import heapq
import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fmnist.launch import progress as module
from fmnist.launch.progress import Progress
from fmnist.record.result import Outcome

DONE, FAILED = Outcome(0.5, {}), Outcome(None, {}, "too bad")


class World:
    """A sweep whose stacks take known times. Each kind of stack has seconds an epoch, which vary a little; a worker has
    to start, a stack to be made and to be ended. What is foretold is noted at each epoch, with the time."""

    def __init__(self, kinds, stacks, workers, starting=0.0, around=0.0, jitter=0.0, failing=(), begun=0, seed=0):
        """kinds: seconds of an epoch of one run, epochs; stacks: kind and runs of each; failing: places of runs that
        fail in their second epoch; begun: epochs that the runs of the first stack have behind them."""
        self.random, self.jitter, self.now, self.foretold = random.Random(seed), jitter, 0.0, []
        self.last_failure = 0.0
        self.kinds, self.starting, self.around, self.failing = kinds, starting, around, failing
        self.stacks, places = [], iter(range(10_000))
        for kind, size in stacks:
            self.stacks.append((kind, [next(places) for _ in range(size)]))
        runs = [(kind, run) for kind, own in self.stacks for run in own]
        totals = [kinds[kind][1] for kind, _ in runs]
        self.begun = [min(begun, totals[run] - 1) if run in self.stacks[0][1] else 0 for _, run in runs]
        self.progress = Progress(totals, self.begun, 0, lambda run, outcome: None, clock=lambda: self.now)
        self.progress.kinds = [str(kind) for kind, _ in runs]
        self.progress._work = lambda own: kinds[runs[own[0]][0]][0] * len(own)  # in the unit of nobody's
        self.progress.estimate.workers = workers

    def events(self, worker, kind, runs, now, first):
        """When a stack is handed, reaches its epochs, and has ended."""
        seconds, epochs = self.kinds[kind]
        pace = seconds * len(runs) * 3.0  # which the work does not tell
        yield now, "handed", worker, runs
        now += self.around * pace + (self.starting if first else 0.0)
        alive = set(runs)
        for epoch in range(self.begun[runs[0]] + 1, epochs + 1):
            now += pace * self.random.uniform(1 - self.jitter, 1 + self.jitter)
            yield now, "reached", epoch, runs
            for run in [run for run in runs if run in self.failing and epoch == self.begun[runs[0]] + 2]:
                alive.discard(run)
                yield now, "failed", worker, [run]
            if not alive:
                return
        for run in sorted(alive):
            yield now + self.around * pace, "done", worker, [run]

    def run(self):
        """Train all; how long it took."""
        progress, waiting = self.progress, list(self.stacks)
        progress.planned([runs for _, runs in self.stacks], progress.estimate.workers)
        queue, number = [], 0

        def push(source):
            nonlocal number
            number += 1
            if (event := next(source, None)) is not None:
                heapq.heappush(queue, (event[0], number, event, source))
                return True
            return False

        for worker in range(progress.estimate.workers):
            if waiting:
                push(self.events(worker, *waiting.pop(0), 0.0, True))
        busy = {}
        while queue:
            self.now, _, (_, what, other, runs), source = heapq.heappop(queue)
            if what == "handed":
                progress.handed(other, runs)
                busy[id(source)] = other
            elif what == "reached":
                progress.reached(runs, other)
            else:
                progress.ended(runs[0], FAILED if what == "failed" else DONE)
                self.last_failure = self.now if what == "failed" else self.last_failure
            self.foretold.append((self.now, progress.estimate.left(self.now)))
            if not push(source) and waiting:
                push(self.events(busy[id(source)], *waiting.pop(0), self.now, False))
        return self.now

    def check(self):
        """Compare what was foretold with how long it took. It may be wrong by the longest epoch, too. That a run will
        fail cannot be foretold: until then nothing is compared."""
        end = self.run()
        longest = max(seconds * 3.0 * max(len(runs) for kind, runs in self.stacks if kind == number)
                      for number, (seconds, _) in enumerate(self.kinds)
                      if any(kind == number for kind, _ in self.stacks))  # fmt: skip
        checked = 0
        for now, left in self.foretold:
            if now < 0.1 * end or now <= self.last_failure or left is None:
                continue
            checked += 1
            assert abs(left - (end - now)) <= 0.2 * (end - now) + (1 + 2 * self.around) * longest, (now, left, end)
        return checked


@settings(max_examples=50, deadline=None)
@given(
    kinds=st.lists(st.tuples(st.floats(0.02, 5.0), st.integers(30, 80)), min_size=1, max_size=3),
    shape=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), min_size=1, max_size=9),
    workers=st.integers(1, 4), starting=st.floats(0.0, 3.0), around=st.floats(0.0, 1.0), jitter=st.floats(0.0, 0.2),
    failing=st.sets(st.integers(0, 2), max_size=2), begun=st.integers(0, 25), seed=st.integers(0, 99),
)  # fmt: skip
@example([(1.0, 40)], [(0, 2)] * 9, 2, 3.0, 0.5, 0.2, {0}, 0, 0)  # equal stacks, two workers
@example([(0.1, 40), (2.0, 40)], [(1, 4), (0, 4), (0, 4), (0, 4)], 2, 0.0, 0.0, 0.1, set(), 0, 1)  # one is slow
@example([(1.0, 50)], [(0, 3), (0, 3), (0, 3)], 1, 1.0, 0.1, 0.1, {0, 1, 2}, 20, 2)  # the whole first stack fails
def test_the_time_left_is_right_within_a_fifth_after_a_tenth(
    kinds, shape, workers, starting, around, jitter, failing, begun, seed
):
    stacks = [(kind % len(kinds), size) for kind, size in shape]
    World(kinds, stacks, workers, starting, around, jitter, failing, begun, seed).check()


def test_it_is_known_after_a_tenth_of_a_long_sweep():
    assert World([(1.0, 60)], [(0, 4)] * 8, 2, starting=3.0, jitter=0.1).check() > 300
    assert World([(1.0, 60), (0.2, 60)], [(0, 2)] * 3 + [(1, 8)] * 5, 3, begun=30).check() > 300


def test_a_stack_that_is_halved_counts_as_two():
    world = World([(1.0, 10)], [(0, 4), (0, 4)], 1)
    progress = world.progress
    progress.planned([[0, 1, 2, 3], [4, 5, 6, 7]], 1)
    progress.handed("a", [0, 1, 2, 3])
    for world.now in (2.0, 4.0):
        progress.reached([0, 1, 2, 3], int(world.now) // 2)
    assert progress.estimate.left(world.now) == 8 * 2 + 10 * 2
    progress.halved([0, 1, 2, 3], "does not fit", "out of memory")
    assert [part.runs for part in progress.estimate.training["a"].parts] == [[0, 1], [2, 3]]
    progress.lost("a")
    progress.halved([0, 1], "was cut off", "signal 9")
    assert [stack.runs for stack in progress.estimate.waiting] == [[4, 5, 6, 7], [0], [1]]
    progress.handed("b", [4, 5, 6, 7])
    assert progress.estimate.numbers == {"b": 1}


def test_a_stack_of_which_nobody_tells_is_known_by_the_rows_of_its_runs():
    world = World([(1.0, 10)], [(0, 2), (0, 2)], 2)
    world.progress.planned([[0, 1], [2, 3]], 2)
    for world.now in (3.0, 4.0):
        world.progress.reached([2], int(world.now) - 2)
    (stack,) = world.progress.estimate.training.values()
    assert (stack.runs, len(world.progress.estimate.waiting)) == ([2, 3], 1)
    assert world.progress.estimate.left(world.now) == 10.0
    assert module.duration(10.0) == "10 s"
