"""Worker processes: errors cross to us as data, and a worker that dies takes nothing with it but its own runs."""

import json
import os
import signal
from pathlib import Path

import pytest
from helpers import assert_same_run, make_config, tiny
from sweeping import until

from fmnist.launch.pool import Task, Workers
from fmnist.launch.progress import Progress
from fmnist.launch.trouble import Unmeasured
from fmnist.train import engine

SMALL = {"model.hidden": [12], "data.limit": 300}


@pytest.fixture(scope="module")
def workers():
    """Two of them, for all tests: it takes seconds to import torch."""
    pool = Workers({"FMNIST_TEST": "a b"})
    yield pool
    pool.close()


class Watched:
    """A progress that notes how each run ended, and does something once when so many runs have reached an epoch."""

    def __init__(self, configs, at=None, runs=1, then=None):
        self.outcomes, self.at, self.runs, self.then = {}, at, runs, then
        self.there = set()
        self.counted = Progress([c.epochs for c in configs], [0] * len(configs), 0, self.outcomes.__setitem__)

    def __enter__(self):
        self.counted.__enter__()
        return self

    def __exit__(self, *error):
        self.counted.__exit__(*error)

    def reached(self, runs, epoch):
        self.counted.reached(runs, epoch)
        if self.at is not None and epoch >= self.at:
            self.there |= set(runs)
            if len(self.there) >= self.runs:
                self.at = None
                self.then()

    def __getattr__(self, name):
        return getattr(self.counted, name)


def task(folder, configs, *places):
    return Task([configs[place] for place in places], [folder / str(place) for place in places], places)


def status_of(directory):
    result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    return result["status"], result["error"]


def test_a_pace_is_measured(workers):
    configs = [make_config(seed=seed, **SMALL) for seed in range(3)]
    assert 0 < workers.pace(configs, 2, 1) < float("inf")


def test_a_mistake_in_the_data_is_told_and_all_workers_live_on(workers, tmp_path):
    tiny(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    workers.grow(2)
    before = [worker.process.pid for worker in workers.workers]
    config = make_config(data="idx", **{"data.dir": str(tmp_path)})
    with pytest.raises(Unmeasured, match="holds no train-labels-idx1-ubyte") as refused:
        workers.pace([config], 2, 1)
    assert not refused.value.too_large
    assert workers.pace([make_config(**SMALL)], 2, 1) > 0
    assert [worker.process.pid for worker in workers.workers] == before


def test_one_worker_that_has_died_is_replaced_and_the_others_stay(workers):
    workers.grow(2)
    workers.pace([make_config(**SMALL)], 2, 1)
    first, second = (worker.process for worker in workers.workers)
    first.send_signal(signal.SIGKILL)
    with pytest.raises(Unmeasured, match=r"a worker process died \(signal 9\)") as refused:
        workers.pace([make_config(**SMALL)], 2, 1)
    assert refused.value.too_large  # the system kills what takes too much memory
    assert workers.pace([make_config(**SMALL)], 2, 1) > 0
    assert [worker.process for worker in workers.workers][:1] == [second]
    assert len(workers.workers) == 2


def test_a_worker_that_dies_fails_its_own_runs_and_their_records_do_not_say_that_they_train(workers, tmp_path):
    configs = [make_config(seed=seed, epochs=20 + 1000 * (seed == 0), **SMALL) for seed in range(4)]
    workers.grow(1)
    victim = workers.workers[0].process
    tasks = [task(tmp_path, configs, 0), task(tmp_path, configs, 1, 2), task(tmp_path, configs, 3)]
    with Watched(configs, at=30, then=lambda: victim.send_signal(signal.SIGKILL)) as progress:
        assert workers.train(tasks, 2, 1, progress) is None
    reason = "its worker process died (signal 9)"
    assert {run: outcome.error for run, outcome in progress.outcomes.items()} == {0: reason, 1: None, 2: None, 3: None}
    assert status_of(tmp_path / "0") == ("interrupted", reason)
    assert (tmp_path / "0" / "train.log").read_text(encoding="utf-8").endswith(f"error: {reason}\n")
    assert [status_of(tmp_path / str(run)) for run in (1, 2, 3)] == [("done", None)] * 3


def test_a_stack_whose_worker_is_killed_goes_on_in_halves_from_its_checkpoints(workers, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # of the solo runs
    configs = [make_config(seed=seed, epochs=20, save_every=0.0, precision="float64", **SMALL) for seed in range(3)]
    workers.shrink(1)
    workers.grow(1)
    victim = workers.workers[0].process
    with Watched(configs, at=10, then=lambda: victim.send_signal(signal.SIGKILL)) as progress:
        assert workers.train([task(tmp_path, configs, 0, 1, 2)], 1, 1, progress) is None
    assert {run: outcome.error for run, outcome in progress.outcomes.items()} == {0: None, 1: None, 2: None}
    for run in range(3):
        assert status_of(tmp_path / str(run)) == ("done", None)
        log = (tmp_path / str(run) / "train.log").read_text(encoding="utf-8")
        assert log.count("a stack was cut off: its worker process died (signal 9); it is halved") == 1
        assert "going on after epoch" in log
        engine.fit([configs[run]], [tmp_path / "solo" / str(run)])
        assert_same_run(tmp_path / str(run), tmp_path / "solo" / str(run), rel=1e-7, abs=1e-7)


def test_an_error_outside_of_training_fails_the_runs_of_its_task_and_the_worker_goes_on(workers, tmp_path):
    configs = [make_config(seed=seed, epochs=2, **SMALL) for seed in range(3)]
    broken = Task([None], [tmp_path / "0"], [0])  # no config at all
    with Watched(configs) as progress:
        assert workers.train([broken, task(tmp_path, configs, 1, 2)], 1, 1, progress) is None
    assert "AttributeError" in progress.outcomes[0].error
    assert [progress.outcomes[run].error for run in (1, 2)] == [None, None]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_and_no_worker_is_replaced(workers, number, tmp_path, monkeypatch):
    configs = [make_config(seed=seed, epochs=100_000, save_every=0.0, **SMALL) for seed in range(3)]
    tasks = [task(tmp_path, configs, seed) for seed in range(3)]
    workers.grow(2)
    ended = []
    for process in [worker.process for worker in workers.workers]:
        monkeypatch.setattr(process, "wait", lambda wait=process.wait: ended.append(wait()) or ended[-1])
    with Watched(configs, at=2, runs=2, then=lambda: os.kill(os.getpid(), number)) as progress:
        assert workers.train(tasks, 2, 1, progress) == number
    assert not progress.outcomes
    assert {status_of(path)[0] for path in tmp_path.iterdir()} == {"interrupted"}
    assert ended == [128 + number] * 2
    assert not workers.workers


def test_workers_have_the_variables_that_they_are_given():
    pool = Workers({"FMNIST_TEST": "a b", "OMP_NUM_THREADS": "3"})
    pool.grow(1)
    try:
        place = Path(f"/proc/{pool.workers[0].process.pid}/environ")
        environment = until(place.read_bytes, "the process has become a worker").split(b"\0")
        assert {b"FMNIST_TEST=a b", b"OMP_NUM_THREADS=3"} <= set(environment)
    finally:
        pool.close()
