"""What runs cost, by their configs and the headers of their data, held against what is built and computed."""

from dataclasses import replace

import pytest
import torch
from helpers import FILES, make_config, tiny, write
from torch.utils.flop_counter import FlopCounterMode

from fmnist.launch import costs
from fmnist.launch.costs import SPEED, beside, bound, memory, parameters, rows, size, steps, work
from fmnist.launch.machine import Machine
from fmnist.launch.plan import plan
from fmnist.train.restore import assemble
from fmnist.view import measure

KNOBS = [
    {"model.hidden": [30, 20]}, {"model": "deep", "model.depth": 7, "model.width": 9}, {"model": "autoencoder"},
    {"model": "vae", "model.hidden": [30]}, {"batch_size": None, "data.split": 0.5}, {"data.split": 1.0},
    {"model.hidden": [30, 20], "gate": "sigmoid"},
    {"model": "vae", "model.hidden": [60], "model.latent": 4, "gate": "sigmoid"},
    {"model": "vamp", "model.hidden": [60, 30], "model.pseudo_inputs": 70, "gate": "sigmoid"},
    {"model": "vamp", "model.pseudo_inputs": 300},
    {"model": "two_levels", "model.hidden": [60, 30, 40], "gate": "sigmoid"},
    {"model": "two_levels", "model.hidden": [60], "model.prior": "vamp"}, {"model": "hog"},
    {"model": "vamp", "model.hidden": [60, 30], "model.train_samples": 4},
    {"model": "two_levels", "model.hidden": [60, 30], "model.train_samples": 4, "gate": "sigmoid"},
]  # fmt: skip


@pytest.mark.parametrize("knobs", KNOBS)
def test_costs_are_those_of_the_stack_that_is_built(knobs):
    config = make_config(**{"data.limit": 200, "epochs": 3, "batch_size": 64, "precision": "float64", **knobs})
    stack = assemble([config])
    train, validation = stack.dataset.train, stack.dataset.validation
    assert parameters(config) == pytest.approx(sum(p.numel() for p in stack.model.parameters()), rel=0.03)
    assert rows(config) == (len(train.labels), len(validation.labels) if validation else 0)
    stack.train_epoch(1)  # the first steps of a model are prepared, which takes products of its own
    with FlopCounterMode(display=False) as counted:
        stack.train_epoch(2)
        if validation:
            stack.measure("validation", validation)
    products = counted.get_total_flops() / 2  # a multiply-add counts as two
    # A first layer has no slopes to pass on: the more of the weights it has, the fewer products there are.
    assert 0.6 < products / (work(config) / 3) < 1.05


@pytest.mark.parametrize("knobs", [{"model": "vae"}, {"model": "vamp"}, {"model": "vamp", "model.train_samples": 3}])
def test_the_bound_of_a_vae_costs_a_pass_of_its_decoder_for_each_sample(knobs):
    sizes = {"data.limit": 200, "epochs": 3, "model.hidden": [60, 30]}
    config = make_config(**{**sizes, **knobs, "model.iwae_samples": 50})
    stack = assemble([config])
    with FlopCounterMode(display=False) as counted:
        for split in (stack.dataset.validation, stack.dataset.test):
            measure.bound(stack, split)
    assert bound(config) == pytest.approx(counted.get_total_flops() / 2, rel=0.05)
    assert not bound(replace(config, until=0.5))
    assert not bound(make_config(**knobs))
    without = replace(config, model=replace(config.model, iwae_samples=None))
    four = Machine(4, 16e9, 0)
    more = plan([config] * 3, four).seconds - plan([without] * 3, four).seconds
    assert more == pytest.approx(3 * bound(config) / (4 * costs.SPEED))


def test_the_activations_of_each_sample_need_memory():
    one, three = (make_config("vamp", batch_size=6000, **{"model.train_samples": samples}) for samples in (1, 3))
    more = 2 * costs.PASSES * 6000 * sum(costs.widths(one)[1:])
    assert memory(three) - memory(one) == 4 * more


@pytest.mark.parametrize("knobs", KNOBS)
def test_steps_are_those_that_are_taken(knobs, monkeypatch):
    config = make_config(**{"data.limit": 200, "epochs": 2, "batch_size": 64, **knobs})
    stack, taken = assemble([config]), []
    original = stack.step
    monkeypatch.setattr(stack, "step", Counting(original, taken))
    for epoch in (1, 2):
        stack.train_epoch(epoch)
    assert len(taken) == steps(config)


class Counting:
    """A step that notes each call."""

    def __init__(self, step, taken):
        self.step, self.taken = step, taken

    def __call__(self, *given):
        self.taken.append(1)
        return self.step(*given)

    def __getattr__(self, name):
        return getattr(self.step, name)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_other_data_cost_what_their_headers_say(tmp_path, suffix):
    tiny(tmp_path, rows=60, suffix=suffix)
    config = make_config(data="idx", batch_size=7, **{"data.dir": str(tmp_path), "model.hidden": [5]})
    assert size(config) == (60, 8, 6, 4)
    stack = assemble([config])
    assert parameters(config) == sum(p.numel() for p in stack.model.parameters())
    assert rows(config) == (len(stack.dataset.train.labels), len(stack.dataset.validation.labels))
    wide = make_config(batch_size=7, **{"model.hidden": [5]})
    assert memory(config) < memory(wide)
    assert costs.data_memory(config) < costs.data_memory(wide) / 1000


@pytest.mark.parametrize(("limit", "measured"), [(None, 12), (5, 5), (1000, 12)])
def test_the_files_of_a_data_set_are_kept_whole_whatever_the_limit(tmp_path, limit, measured):
    tiny(tmp_path, rows=60)
    config = make_config(data="idx", **{"data.dir": str(tmp_path), "data.limit": limit, "batch_size": 2})
    stack = assemble([config])
    kept = len(stack.dataset.train.images.untyped_storage()) + len(stack.dataset.test.images.untyped_storage())
    assert costs.data_memory(config) == kept + 4 * 6 * measured


def test_a_home_that_is_not_known_is_no_error(monkeypatch):
    config = make_config(data="idx", **{"data.dir": "~nobody-has-this-name/data"})
    assert size(config) == (60_000, 10_000, 784, 10)


def test_of_images_the_header_alone_is_read(tmp_path):
    tiny(tmp_path)
    with open(tmp_path / FILES[0], "r+b") as file:
        file.truncate(16)  # not one pixel is left
    config = make_config(data="idx", **{"data.dir": str(tmp_path)})
    assert size(config) == (20, 8, 6, 4)


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / FILES[0]).unlink(), lambda folder: (folder / FILES[0]).write_bytes(b"\0\0"),
    lambda folder: (folder / FILES[1]).write_bytes(b"nothing"),
    lambda folder: write(folder / FILES[2], torch.zeros(0, 3, 2, dtype=torch.uint8)),
    lambda folder: ((folder / FILES[0]).unlink(), (folder / f"{FILES[0]}.gz").write_bytes(b"\x1f\x8b no")),
])  # fmt: skip
def test_data_that_cannot_be_read_cost_what_fashion_mnist_costs(tmp_path, damage):
    tiny(tmp_path)
    damage(tmp_path)
    config = make_config(data="idx", **{"data.dir": str(tmp_path)})
    assert size(config) == (60_000, 10_000, 784, 10)
    assert work(config) == work(make_config())


@pytest.mark.parametrize(("until", "eval_every", "expected"), [
    (None, 1, 60), (0.5, 1, 30), (0.51, 1, 31), (0.5, 7, 35), (0.99, 7, 60), (1.0, 13, 60),
])  # fmt: skip
def test_a_run_that_pauses_trains_up_to_a_recorded_epoch(until, eval_every, expected):
    assert make_config(until=until, eval_every=eval_every).last_epoch == expected


@pytest.mark.parametrize(
    ("knobs", "measured"),
    [({"model": "linear"}, 273), ({"model": "deep", "model.depth": 50}, 1148),
     ({"model": "deep", "model.depth": 50, "norm": "batch", "skip": True}, 2749),
     ({"model": "deep", "norm": "batch"}, 1004), ({"model": "vae"}, 10271), ({"model": "autoencoder"}, 2262)],
)  # fmt: skip
def test_many_thin_layers_take_longer_than_their_products(knobs, measured):
    config = make_config(**knobs)
    step = 1e6 * (work(config) / SPEED + beside(config)) / steps(config)
    assert measured / 1.5 < step < 1.5 * measured  # microseconds of a processor, as measured
