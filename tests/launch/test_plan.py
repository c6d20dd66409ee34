"""Which runs train together, what they cost, and by how many workers: decided from configs and measured paces."""

import itertools

import pytest
import torch
from helpers import make_config

from fmnist.data.dataset import load
from fmnist.launch import plan
from fmnist.launch.costs import memory, parameters, rows, steps, work
from fmnist.launch.groups import cut, groups, kind_of, stacks
from fmnist.train.stack import Stack


def test_runs_that_differ_in_per_run_knobs_alone_train_together():
    base = make_config(dropout=0.1, noise=None)
    alike = [{"seed": 1}, {"lr": 0.1}, {"dropout": 0.5}, {"schedule": "cosine"}, {"optim.betas": [0.5, 0.5]},
             {"init_scale": 2.0}, {"patience": None}, {"select": "best"}]  # fmt: skip
    unlike = [{"dropout": None}, {"batch_size": 64}, {"model.hidden": [300]}, {"epochs": 3}, {"batch_norm": True},
              {"model.activation": "gelu"}, {"optim": "sgd"}, {"data.limit": 100}, {"precision": "float64"},
              {"grad_clip": 1.0}, {"loss": "report"}, {"device": "cpu"}, {"save_every": 1.0}]  # fmt: skip
    for knobs in alike:
        assert kind_of(make_config(**{"dropout": 0.1, **knobs})) == kind_of(base), knobs
    for knobs in unlike:
        assert kind_of(make_config(**{"dropout": 0.1, **knobs})) != kind_of(base), knobs


def test_groups_hold_every_run_once_and_the_most_work_comes_first():
    configs = [make_config(seed=seed, batch_size=size, **{"model.hidden": hidden})
               for seed, size, hidden in itertools.product((1, 0), (32, 64), ([20], [300]))]  # fmt: skip
    found = groups(configs)
    assert sorted(itertools.chain(*found)) == list(range(8))
    for group in found:
        assert len({kind_of(configs[run]) for run in group}) == 1
        assert [configs[run].order_seed for run in group] == [0, 1]  # those that share an order are neighbours
    assert [configs[group[0]].model.hidden for group in found] == [[300], [300], [20], [20]]


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("most", [1, 4, 8, 100])
@pytest.mark.parametrize("runs", [1, 2, 7, 16, 33])
def test_a_group_is_cut_evenly_and_keeps_all_workers_busy(runs, most, workers):
    pieces = cut(range(runs), most, workers)
    assert list(itertools.chain(*pieces)) == list(range(runs))
    sizes = [len(piece) for piece in pieces]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    assert len(pieces) % workers == 0 or len(pieces) == runs


def test_stacks_are_bounded_by_memory_and_few_groups_are_cut_for_the_workers():
    configs = [make_config(seed=seed) for seed in range(12)] + [make_config(seed=seed, batch_size=7) for seed in (0, 1)]
    assert sorted(map(len, stacks(configs, 100, 1, 1e12))) == [2, 12]
    assert max(map(len, stacks(configs, 100, 1, 3.5 * memory(configs[0])))) == 3
    assert {len(piece) for piece in stacks(configs, 100, 1, 0.0)} == {1}  # one run has to be tried
    assert sorted(map(len, stacks(configs, 100, 4, 1e12))) == [2, 3, 3, 6]


@pytest.mark.parametrize("knobs", [
    {"model.hidden": [30, 20]}, {"model": "deep", "model.depth": 7, "model.width": 9}, {"model": "autoencoder"},
    {"model": "vae", "model.hidden": [30]}, {"batch_size": None, "data.split": 0.5}, {"data.split": 1.0},
])  # fmt: skip
def test_costs_are_those_of_the_stack_that_is_built(knobs):
    config = make_config(**{"data.limit": 200, "epochs": 3, "batch_size": 64, **knobs})
    dataset = load(**vars(config.data))
    stack = Stack([config], dataset, torch.device("cpu"))
    assert parameters(config) == pytest.approx(sum(p.numel() for p in stack.model.parameters()), rel=0.03)
    held_out = len(dataset.validation.labels) if dataset.validation else 0
    assert rows(config) == (len(dataset.train.labels), held_out)
    assert steps(config) == 3 * len(stack.feed.slices)
    assert work(config) == parameters(config) * 3 * (3 * rows(config)[0] + rows(config)[1])


class Paces:
    """Stands in for the pool: what a step takes is computed, not measured."""

    def __init__(self, pace=None, devices=0):
        self.told, self.devices, self.asked = pace, devices, []

    def cuda_devices(self):
        return self.devices

    def pace(self, configs, workers, threads, seconds):
        self.asked.append((workers, len(configs), threads))
        return self.told(workers, len(configs))


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(plan, "available", lambda: 64e9)


MANY = [make_config(seed=seed) for seed in range(32)]


@pytest.mark.parametrize(("pace", "workers", "threads", "stack"), [
    (lambda workers, runs: 1.0 * runs, 4, 1, 8),  # nothing gained by stacking, nothing lost
    (lambda workers, runs: 1.0 * runs**2, 4, 1, 1),  # stacks are slow here
    (lambda workers, runs: 1.0 + 0.001 * runs, 4, 1, 8),  # they are free
    (lambda workers, runs: workers**2.0, 1, 4, 16),  # processes are in one another's way
])  # fmt: skip
def test_the_measured_pace_decides(four_cores, pace, workers, threads, stack):
    chosen = plan.plan(MANY, Paces(pace))
    assert (chosen.workers, chosen.threads) == (workers, threads)
    assert max(map(len, chosen.stacks)) == stack
    assert sorted(itertools.chain(*chosen.stacks)) == list(range(32))
    assert "measured" in str(chosen)


def test_each_group_gets_stacks_of_its_own_size(four_cores):
    class ByBatch(Paces):
        def pace(self, configs, workers, threads, seconds):
            return 1.0 * len(configs) ** 2 if configs[0].batch_size is None else 1.0 + 0.001 * len(configs)

    full = [make_config(seed=seed, batch_size=None, epochs=2000) for seed in range(8)]
    chosen = plan.plan([*full, *MANY], ByBatch())
    assert {len(piece) for piece in chosen.stacks if piece[0] < 8} == {1}
    assert {len(piece) for piece in chosen.stacks if piece[0] >= 8} == {8}
    assert "x 1: " in str(chosen)
    assert "x 10: " in str(chosen)


def test_a_long_step_is_not_tried_in_large_stacks(four_cores):
    paces = Paces(lambda workers, runs: 1.0)
    full = [make_config(seed=seed, batch_size=None, epochs=2000) for seed in range(32)]
    chosen = plan.plan(full, paces)
    assert {runs for _, runs, _ in paces.asked} <= {1, 2, 3}
    assert max(map(len, chosen.stacks)) <= 3
    short = [make_config(seed=seed, batch_size=None, epochs=9000, **{"data.limit": 1000}) for seed in range(32)]
    plan.plan(short, paces)
    assert max(runs for _, runs, _ in paces.asked) == plan.LARGEST


def test_few_long_runs_get_all_cores_one_after_another_unless_others_fill_the_gaps(four_cores):
    shared = Paces(lambda workers, runs: 1.0 * runs * workers)  # cores are worth as much together as apart
    few = [make_config(seed=seed, batch_size=None, epochs=2000) for seed in range(5)]
    assert plan.plan(few, shared).workers == 1
    assert plan.plan(few[:4], shared).workers == 4
    assert plan.plan([*few, *MANY], shared).workers == 4


def test_what_the_user_chose_is_kept(four_cores):
    paces = Paces(lambda workers, runs: 1.0)
    chosen = plan.plan(MANY, paces, workers=2, stack=5)
    assert (chosen.workers, chosen.threads) == (2, 2)
    assert max(map(len, chosen.stacks)) <= 5
    assert {asked[0] for asked in paces.asked} == {2}


def test_little_work_is_not_worth_a_measurement_and_one_run_gets_all_cores(four_cores):
    paces = Paces()
    short = [make_config(seed=seed, epochs=1, **{"data.limit": 500}) for seed in range(8)]
    assert plan.plan(short, paces).workers == 4
    alone = plan.plan(MANY[:1], paces)
    assert (alone.workers, alone.threads, alone.stacks) == (1, 4, [[0]])
    assert not paces.asked


def test_little_memory_means_small_stacks_and_few_workers(four_cores, monkeypatch):
    monkeypatch.setattr(plan, "available", lambda: 2.5e9)
    chosen = plan.plan(MANY, Paces(lambda workers, runs: 1.0))
    assert chosen.bytes < 2.5e9
    assert chosen.workers < 4


def test_every_cuda_device_gets_one_worker_and_one_stack_at_a_time(four_cores):
    chosen = plan.plan(MANY, Paces(devices=3))
    assert (chosen.workers, chosen.threads, chosen.devices) == (3, None, 3)
    assert sorted(map(len, chosen.stacks)) == [10, 11, 11]
    assert plan.plan(MANY, Paces(devices=3), stack=4).workers == 3
    one = [make_config(seed=seed) for seed in range(4)]
    for config in one:
        config.device = "cuda:1"
    assert plan.plan(one, Paces(devices=3)).workers == 1
    for config in one:
        config.device = "cpu"
    assert plan.plan(one, Paces(lambda workers, runs: 1.0, devices=3)).devices == 0
