"""Which runs train together and by how many workers: decided from configs, the machine and measured paces."""

import itertools

import pytest
from helpers import make_config

from fmnist.launch import plan
from fmnist.launch.costs import memory
from fmnist.launch.groups import cut, groups, kind_of, stacks
from fmnist.launch.machine import Machine
from fmnist.launch.trouble import Unmeasured


def test_runs_that_differ_in_per_run_knobs_alone_train_together():
    base = make_config(dropout=0.1, noise=None)
    alike = [{"seed": 1}, {"lr": 0.1}, {"dropout": 0.5}, {"schedule": "cosine"}, {"optim.betas": [0.5, 0.5]},
             {"init_scale": 2.0}, {"patience": None}, {"select": "best"}]  # fmt: skip
    paths = [make_config(skip=True, drop_path=share) for share in (0.1, 0.5)]
    assert kind_of(paths[0]) == kind_of(paths[1])
    annealed = [
        make_config(seed=seed, **{"anneal.dropout": ends})
        for seed, ends in enumerate(([0.1, 0.4], [0.1, 0.4], [0, 0.4]))
    ]
    assert kind_of(annealed[0]) == kind_of(annealed[1]) != kind_of(annealed[2])
    unlike = [{"dropout": None}, {"batch_size": 64}, {"model.hidden": [300]}, {"epochs": 3}, {"batch_norm": True},
              {"model.activation": "gelu"}, {"optim": "sgd"}, {"data.limit": 100}, {"precision": "float64"},
              {"grad_clip": 1.0}, {"loss": "report"}, {"device": "cpu"}, {"save_every": 1.0},
              {"gate": "relu"}]  # fmt: skip
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
    found = cut(range(runs), most, workers)
    assert list(itertools.chain(*found)) == list(range(runs))
    sizes = [len(stack) for stack in found]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    assert len(found) % workers == 0 or len(found) == runs


def test_stacks_are_bounded_by_memory_and_few_groups_are_cut_for_the_workers():
    configs = [make_config(seed=seed) for seed in range(12)] + [make_config(seed=seed, batch_size=7) for seed in (0, 1)]

    def lengths(workers, room):
        return sorted(map(len, stacks(configs, groups(configs), [100, 100], workers, room)))

    assert lengths(1, 1e12) == [2, 12]
    assert max(lengths(1, 3.5 * memory(configs[0]))) == 3
    assert set(lengths(1, 0.0)) == {1}  # one run has to be tried
    assert lengths(4, 1e12) == [2, 3, 3, 6]


class Paces:
    """Stands in for measurements: what a step takes is computed from workers and runs."""

    def __init__(self, seconds):
        self.seconds, self.asked = seconds, []

    def __call__(self, configs, workers, threads):
        self.asked.append((workers, len(configs), threads))
        return self.seconds(workers, len(configs))


FOUR = Machine(cores=4, memory=64e9)
MANY = [make_config(seed=seed) for seed in range(32)]


@pytest.mark.parametrize(("pace", "workers", "threads", "stack"), [
    (lambda workers, runs: 1.0 * runs, 4, 1, 8),  # nothing gained by stacking, nothing lost
    (lambda workers, runs: 1.0 * runs**2, 4, 1, 1),  # stacks are slow here
    (lambda workers, runs: 1.0 + 0.001 * runs, 4, 1, 8),  # they are free
    (lambda workers, runs: workers**2.0, 1, 4, 16),  # processes are in one another's way
])  # fmt: skip
def test_the_measured_pace_decides(pace, workers, threads, stack):
    chosen = plan.plan(MANY, FOUR, pace=Paces(pace))
    assert (chosen.workers, chosen.threads) == (workers, threads)
    assert max(map(len, chosen.stacks)) == stack
    assert sorted(itertools.chain(*chosen.stacks)) == list(range(32))
    assert chosen.measured


def test_the_estimate_follows_from_the_pace_and_from_what_is_done_already():
    steps = 60 * 375  # of a run
    chosen = plan.plan(MANY, FOUR, pace=Paces(lambda workers, runs: 0.01 * runs))
    stacks = len(chosen.stacks)
    assert chosen.seconds == pytest.approx(plan.START + plan.aside(MANY, stacks, 4) + 32 * steps * 0.01 / 4)
    begun = plan.plan(MANY, FOUR, pace=Paces(lambda workers, runs: 0.01 * runs), begun=[15] * 16 + [60] * 16)
    assert begun.seconds == pytest.approx(plan.START + plan.aside(MANY, stacks, 4) + 16 * 0.75 * steps * 0.01 / 4)


def test_the_estimate_grows_with_runs_stacks_and_pictures_however_little_they_train():
    def estimate(count, stack, **knobs):
        configs = [make_config(seed=seed, epochs=1, **knobs, **{"data.limit": 50}) for seed in range(count)]
        return plan.plan(configs, FOUR, stack=stack).seconds

    assert estimate(400, 16) > 2 * estimate(40, 16)
    assert estimate(40, 1) > estimate(40, 16)
    drawn, plain = (estimate(40, 16, model="autoencoder", figures=figures) for figures in (True, False))
    assert drawn > 2 * plain


def test_each_group_gets_stacks_of_its_own_size():
    def pace(configs, workers, threads):
        return 1.0 * len(configs) ** 2 if configs[0].batch_size is None else 1.0 + 0.001 * len(configs)

    full = [make_config(seed=seed, batch_size=None, epochs=2000) for seed in range(8)]
    chosen = plan.plan([*full, *MANY], FOUR, pace=pace)
    assert {len(stack) for stack in chosen.stacks if stack[0] < 8} == {1}
    assert {len(stack) for stack in chosen.stacks if stack[0] >= 8} == {8}
    assert [words.partition(":")[0] for words in chosen.paces] == ["4 x 1", "2 x 1", "4 x 10"]


def test_a_long_step_is_not_tried_in_large_stacks():
    paces = Paces(lambda workers, runs: 1.0)
    full = [make_config(seed=seed, batch_size=None, epochs=2000) for seed in range(32)]
    chosen = plan.plan(full, FOUR, pace=paces)
    assert {runs for _, runs, _ in paces.asked} <= {1, 2, 3}
    assert max(map(len, chosen.stacks)) <= 3
    short = [make_config(seed=seed, batch_size=None, epochs=9000, **{"data.limit": 1000}) for seed in range(32)]
    plan.plan(short, FOUR, pace=paces)
    assert max(runs for _, runs, _ in paces.asked) == plan.LARGEST


def test_few_long_runs_get_all_cores_one_after_another_unless_others_fill_the_gaps():
    shared = Paces(lambda workers, runs: 1.0 * runs * workers)  # cores are worth as much together as apart
    few = [make_config(seed=seed, batch_size=None, epochs=2000) for seed in range(5)]
    assert plan.plan(few, FOUR, pace=shared).workers == 1
    assert plan.plan(few[:4], FOUR, pace=shared).workers == 4
    assert plan.plan([*few, *MANY], FOUR, pace=shared).workers == 4


def test_what_the_user_chose_is_kept():
    paces = Paces(lambda workers, runs: 1.0)
    chosen = plan.plan(MANY, FOUR, workers=2, stack=5, pace=paces)
    assert (chosen.workers, chosen.threads) == (2, 2)
    assert max(map(len, chosen.stacks)) <= 5
    assert {asked[0] for asked in paces.asked} == {2}


def test_little_work_is_not_worth_a_measurement_and_one_run_gets_all_cores():
    paces = Paces(None)
    short = [make_config(seed=seed, epochs=1, **{"data.limit": 500}) for seed in range(8)]
    assert plan.plan(short, FOUR, pace=paces).workers == 4
    alone = plan.plan(MANY[:1], FOUR, pace=paces)
    assert (alone.workers, alone.threads, alone.stacks) == (1, 4, [[0]])
    assert not paces.asked


@pytest.mark.parametrize(("machine", "workers"), [
    (Machine(12, 64e9), 2), (Machine(1, 64e9), 1), (Machine(12, 1.0e9), 1), (Machine(12, 0.0), 1),
    (Machine(12, 64e9, files=33), 1),
])  # fmt: skip
def test_workers_are_the_least_of_jobs_and_what_the_machine_has_room_for(machine, workers):
    assert plan.plan(MANY[:2], machine).workers == workers


def test_little_memory_means_small_stacks_and_few_workers():
    chosen = plan.plan(MANY, Machine(4, 2.5e9), pace=Paces(lambda workers, runs: 1.0))
    assert chosen.bytes < 2.5e9
    assert chosen.workers < 4


def wrong(text, too_large=False):
    def pace(workers, runs):
        raise Unmeasured(text, too_large)

    return pace


def test_a_mistake_that_keeps_the_pace_from_being_measured_is_met_once_and_leaves_an_estimate():
    paces = Paces(wrong("/tmp/e: holds no train-images-idx3-ubyte"))
    chosen = plan.plan(MANY, FOUR, pace=paces)
    assert len(paces.asked) == 1
    assert not chosen.measured
    assert str(chosen).endswith("(not measured: /tmp/e: holds no train-images-idx3-ubyte)")
    assert sorted(itertools.chain(*chosen.stacks)) == list(range(32))
    assert chosen.seconds == plan.plan(MANY, FOUR).seconds


def test_a_mistake_in_one_group_leaves_the_others_measured():
    def pace(configs, workers, threads):
        if configs[0].batch_size is None:
            raise Unmeasured("too few rows")
        return 1.0

    full = [make_config(seed=seed, batch_size=None, epochs=200) for seed in range(8)]
    chosen = plan.plan([*MANY, *full], FOUR, pace=pace)
    assert chosen.measured
    assert chosen.why_not == "too few rows"


@pytest.mark.parametrize("fits", [0, 1, 4, 9])
def test_stacks_that_do_not_fit_are_not_chosen(fits):
    def pace(workers, runs):
        if workers * runs > fits:
            raise Unmeasured("too large", too_large=True)
        return 1.0

    chosen = plan.plan(MANY, FOUR, pace=Paces(pace))
    assert chosen.measured is (fits > 0)
    if fits:
        assert chosen.workers * max(map(len, chosen.stacks)) <= fits


@pytest.mark.parametrize("pace", [lambda workers, runs: 0.0, wrong("no"), wrong("no", too_large=True)])
@pytest.mark.parametrize("knobs", [{}, {"data.split": 0.001, "data.limit": 1}, {"data.limit": 1, "epochs": 10**9}])
def test_no_plan_has_infinite_or_undefined_numbers(pace, knobs):
    configs = [make_config(seed=seed, **knobs) for seed in range(4)]
    chosen = plan.plan(configs, FOUR, pace=Paces(pace))
    assert 0 < chosen.seconds < float("inf")
    assert 0 < chosen.bytes < float("inf")
    assert "inf" not in str(chosen)
    assert "nan" not in str(chosen)


def test_every_cuda_device_gets_one_worker_and_one_stack_at_a_time():
    three = Machine(4, 64e9, devices=3)
    chosen = plan.plan(MANY, three, pace=Paces(None))
    assert (chosen.workers, chosen.threads) == (3, None)
    assert sorted(map(len, chosen.stacks)) == [10, 11, 11]
    assert plan.plan(MANY, three, stack=4).workers == 3
    one = [make_config(seed=seed) for seed in range(4)]
    for config in one:
        config.device = "cuda:1"
    assert plan.plan(one, three).workers == 1
    for config in one:
        config.device = "cpu"
    assert not plan.wants_cuda(one)
    assert plan.plan(one, three).threads is not None


def test_tasks_with_machines_of_their_own_share_neither_cores_nor_memory():
    node = Machine(cores=2, memory=4e9)
    chosen = plan.plan(MANY, node, tasks=256)
    assert (chosen.workers, chosen.threads) == (4, 2)
    assert {len(stack) for stack in chosen.stacks} == {plan.STACK}
    assert plan.plan(MANY, node, tasks=3).workers == 3  # the fourth stack waits
    assert plan.plan(MANY, node, tasks=3).seconds > chosen.seconds
    assert len(plan.plan(MANY, node, workers=16, tasks=256).stacks) == 16
    small = plan.plan(MANY, Machine(2, 0.9e9), tasks=256)
    assert max(map(len, small.stacks)) < plan.STACK
    assert small.bytes / small.workers < 0.9e9
    gpu = plan.plan(MANY, Machine(2, 4e9, devices=1), tasks=256)
    assert (gpu.workers, gpu.threads, len(gpu.stacks)) == (1, None, 1)


@pytest.mark.parametrize(("runs", "words"), [
    (1, "1 run, 1 worker, 4 threads each: about"),
    (2, "2 runs, 2 workers, 2 threads each: about"),
    (8, "8 runs in 4 stacks of 2, 4 workers, 1 thread each: about"),
    (33, "33 runs in 8 stacks of 4 to 5, 4 workers, 1 thread each: about"),
])  # fmt: skip
def test_a_plan_in_words(runs, words):
    assert str(plan.plan([make_config(seed=seed, epochs=1) for seed in range(runs)], FOUR)).startswith(words)
