"""Lets each call of a command fail in each way, runs the same command again, and compares the end.

    python tests/faults/torture.py                                   all calls of a run, a stack and a resumed run
    python tests/faults/torture.py --work sweep search --sample 60   some of commands that are several processes
    python tests/faults/torture.py --power                           power fails after each call
    python tests/faults/torture.py --random 200                      kills at random times

What the second command leaves must equal what a command leaves that nothing befalls: see normal.py. The first one ends
with a status that is not 0 unless its work is whole, with a line that says why, and without a traceback.
"""

import argparse
import queue
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import power
from calls import FAULTS, WRITES, Call, Watch, build
from normal import differences
from work import WORKS, Runner, Work, make_data, told

MEMORY = Path("/dev/shm")  # where nothing waits for a disk


@dataclass
class Straight:
    """A command that nothing befalls. template: what is there before it; seconds: that it takes."""

    name: str
    work: Work
    template: Path | None
    end: dict[str, str]
    calls: list[Call]
    seconds: float


@dataclass
class Tally:
    """What was tried, by (kind of call, fault), and what was found."""

    tried: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: int = 0  # tries whose call was not reached: processes take turns as they like
    found: list[str] = field(default_factory=list)

    def note(self, kind: str, fault: str, where: str, wrong: Sequence[str]) -> None:
        """Count a try."""
        self.tried[kind, fault] += 1
        if wrong:
            self.wrong[kind, fault] += 1
            self.found.append(f"{where}: {'; '.join(wrong)}")


class Torture:
    """Has runners, and a folder in which commands are run."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.folder = folder
        make_data(folder / "data")
        library = build(folder)
        self.runners: queue.SimpleQueue[Runner] = queue.SimpleQueue()
        for _ in range(jobs):
            self.runners.put(Runner(library, folder / "data"))
        self.jobs = jobs

    @contextmanager
    def runner(self) -> Iterator[Runner]:
        """One that is free."""
        runner = self.runners.get()
        try:
            yield runner
        finally:
            self.runners.put(runner)

    def straight(self, name: str) -> Straight:
        """Run a command to its end. Errors: RuntimeError where the log does not explain all that is there then."""
        work, folder = WORKS[name], self.folder / f"{name}-straight"
        template = self.folder / f"{name}-before" if work.before else None
        with self.runner() as runner:
            if template:
                runner.prepare(work, template, None)
                assert work.before is not None
                status, output = runner.run(work, template, also=work.before)
                if status != 0:
                    raise RuntimeError(f"{name}: status {status}\n{output}")
            watch = runner.prepare(work, folder, template)
            begun = time.monotonic()
            status, output = runner.run(work, folder, watch.arm(content=True))
            seconds = time.monotonic() - begun
            if status != 0:
                raise RuntimeError(f"{name}: status {status}\n{output}")
            calls = watch.calls()
            disk = power.Disk(folder, template)
            for call in calls:
                disk.do(call)
            there, explained = power.state_of(folder), disk.state()
            if there != explained:
                unlike = sorted(n for n in {**there, **explained} if there.get(n) != explained.get(n))
                raise RuntimeError(f"{name}: calls are missing from the log: they do not explain {', '.join(unlike)}")
            return Straight(name, work, template, runner.normal(folder), calls, seconds)

    def again(self, runner: Runner, straight: Straight, folder: Path) -> list[str]:
        """Run the same command in a folder that a fault has left; what is wrong with its end."""
        status, output = runner.run(straight.work, folder)
        wrong = [f"the second command: {what}" for what in told(status, output)]
        if status != 0:
            wrong.append(f"the second command: status {status}: {' '.join(output.split())[-300:]}")
        return wrong + differences(straight.end, runner.normal(folder))

    def attempt(self, straight: Straight, number: int, fault: str, tally: Tally) -> None:
        """Let one call of a command have a fault."""
        folder = self.folder / f"{straight.name}-{number}-{fault}"
        with self.runner() as runner:
            watch = runner.prepare(straight.work, folder, straight.template)
            status, output = runner.run(straight.work, folder, watch.arm(number, fault))
            hit = watch.hit()
            wrong = told(status, output)
            if status == 0 and (unlike := differences(straight.end, runner.normal(folder))):
                wrong.append(f"status 0 although the work is not whole: {', '.join(unlike)}")
            if wrong:
                wrong.append(f"it said {' '.join(output.split())[-300:]!r}")
            wrong += self.again(runner, straight, folder)
            if hit is None:
                tally.missed += 1
            else:
                tally.note(hit.name, fault, f"{straight.name} {fault} {hit}", wrong)
            self.clear(folder, watch)

    def lose_power(self, straight: Straight, place: int, case: tuple[str, str, power.State], tally: Tally) -> None:
        """Run a command on what a loss of power has left."""
        call, model, state = case
        folder = self.folder / f"{straight.name}-power-{place}"
        folder.mkdir()
        power.make(state, folder)
        with self.runner() as runner:
            wrong = self.again(runner, straight, folder)
        tally.note(call.split()[1], model, f"{straight.name} power after {call}, {model}", wrong)
        self.clear(folder)

    def kill(self, straight: Straight, place: int, seconds: float, tally: Tally) -> None:
        """Kill a command after so many seconds; it may have ended by then."""
        folder = self.folder / f"{straight.name}-kill-{place}"
        with self.runner() as runner:
            watch = runner.prepare(straight.work, folder, straight.template)
            runner.run(straight.work, folder, seconds=seconds)
            wrong = self.again(runner, straight, folder)
        tally.note("any time", "kill", f"{straight.name} killed after {seconds:.3f} s", wrong)
        self.clear(folder, watch)

    @staticmethod
    def clear(folder: Path, watch: Watch | None = None) -> None:
        """Remove what a try has left."""
        shutil.rmtree(folder, ignore_errors=True)
        if watch:
            watch.close()

    def all(self, tries: Sequence[Callable[[], None]]) -> None:
        """Make all tries, as many at a time as there are runners."""
        with ThreadPoolExecutor(self.jobs) as pool:
            for number, done in enumerate([pool.submit(each) for each in tries], start=1):
                done.result()
                if number % 200 == 0:
                    print(f"  {number} of {len(tries)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the runners."""
        while not self.runners.empty():
            self.runners.get().close()


def chosen(
    calls: Sequence[Call], faults: Sequence[str], every: int = 1, sample: int | None = None, seed: int = 0
) -> list[tuple[int, str]]:
    """Which calls are to have which faults: all, each so many-th, or a sample in which all kinds of calls take
    turns, each with a fault that is drawn."""
    pairs = [(call, fault) for call in calls for fault in faults if fault not in WRITES or call.name == "write"]
    pairs = pairs[seed % every :: every]
    if sample is not None:
        random.Random(seed).shuffle(pairs)
        rank: Counter[str] = Counter()
        turns = []
        for call, fault in pairs:
            rank[call.name] += 1
            turns.append((rank[call.name], call, fault))
        pairs = [(call, fault) for _, call, fault in sorted(turns, key=lambda turn: turn[0])[:sample]]
    return [(call.number, fault) for call, fault in pairs]


def table(straight: Straight, tally: Tally) -> str:
    """The calls of a command by kind: how many there are, how often each fault was tried, what was found."""
    counts = Counter(call.name for call in straight.calls)
    faults = list(dict.fromkeys(fault for _, fault in tally.tried))
    rows = [["call", "calls", *faults, "tries", "differences"]]
    kinds = [*counts, *sorted({kind for kind, _ in tally.tried} - set(counts))]
    for kind in kinds:
        tries = [tally.tried[kind, fault] for fault in faults]
        wrong = sum(tally.wrong[kind, fault] for fault in faults)
        rows.append([kind, str(counts[kind]), *map(str, tries), str(sum(tries)), str(wrong)])
    sums = [str(sum(int(row[column]) for row in rows[1:])) for column in range(1, len(rows[0]))]
    rows.append(["all", *sums])
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def arguments(typed: Sequence[str] | None) -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", choices=WORKS, default=["run", "stack", "resume"])
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=[*FAULTS])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th try alone")
    parser.add_argument("--sample", type=int, metavar="N", help="so many tries, of all kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--power", action="store_true", help="power fails after each call, in place of faults")
    parser.add_argument("--random", type=int, metavar="N", help="N kills at random times, in place of faults")
    parser.add_argument("--call", type=int, nargs="+", help="the numbers of the calls, in place of all")
    return parser.parse_args(typed)


def main(typed: Sequence[str] | None = None) -> int:
    """Try what was asked for, and print a table for each command; 1 if there are differences."""
    asked = arguments(typed)
    place = tempfile.mkdtemp(prefix="faults-", dir=MEMORY if MEMORY.is_dir() else None)
    torture, found = Torture(Path(place).resolve(), asked.jobs), 0
    try:
        for name in asked.work:
            straight, tally, begun = torture.straight(name), Tally(), time.monotonic()
            torture.all(planned(torture, straight, tally, asked))
            print(f"\n{name}: {len(straight.calls)} calls, {sum(tally.tried.values())} tries in "
                  f"{time.monotonic() - begun:.0f} s, {len(tally.found)} differences"
                  f"{f', {tally.missed} calls not reached' if tally.missed else ''}, seed {asked.seed}\n")  # fmt: skip
            print(table(straight, tally), *tally.found, sep="\n", flush=True)
            found += len(tally.found)
    finally:
        torture.close()
        shutil.rmtree(place, ignore_errors=True)
    return int(found > 0)


def planned(torture: Torture, straight: Straight, tally: Tally, asked: argparse.Namespace) -> list[Callable[[], None]]:
    """The tries that were asked for."""
    if asked.random:
        noise = random.Random(asked.seed)
        times = [noise.uniform(0, straight.seconds) for _ in range(asked.random)]
        return [lambda p=p, t=t: torture.kill(straight, p, t, tally) for p, t in enumerate(times)]  # type: ignore[misc]
    if asked.power:
        disk = power.Disk(torture.folder / f"{straight.name}-straight", straight.template)
        cases = [*enumerate(power.states(straight.calls, disk))][asked.seed % asked.every :: asked.every]
        if asked.sample is not None:
            cases = random.Random(asked.seed).sample(cases, min(asked.sample, len(cases)))
        return [lambda p=p, c=c: torture.lose_power(straight, p, c, tally) for p, c in cases]  # type: ignore[misc]
    calls = [call for call in straight.calls if not asked.call or call.number in asked.call]
    pairs = chosen(calls, asked.faults, asked.every, asked.sample, asked.seed)
    return [lambda n=n, f=f: torture.attempt(straight, n, f, tally) for n, f in pairs]  # type: ignore[misc]


if __name__ == "__main__":
    sys.exit(main())
