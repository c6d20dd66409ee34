"""Binarised images: each pixel by its grey level, training images anew in each epoch, all others once."""

import pytest
import torch
from helpers import SMALL, make_config
from training import assert_stacked_and_resumed_alike, data_kept, quick_disk  # noqa: F401 - two serve each test

from fmnist.config.parse import config_hash
from fmnist.data.batches import Batches
from fmnist.data.dataset import binarised, load

ON = {"data.limit": 300, "data.binarise": True}


def images_of(orders, batch_size, epoch=1, augment=None):
    """The training images of an epoch for each order, (orders, rows, pixels), as its batches have them."""
    dataset = load(**vars(make_config(**ON).data))
    feed = Batches(dataset, batch_size, orders, torch.uint8, augment)
    parts = [batch.pixels.clone() for batch in feed.epoch(epoch)]
    return torch.cat([part.expand(len(orders), *part.shape[-2:]) for part in parts], 1)


def test_a_pixel_is_white_with_its_grey_level_as_the_probability():
    levels = torch.arange(256).to(torch.uint8)
    drawn = binarised(levels.expand(4000, 256).contiguous(), torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0, 255}
    share = (drawn == 255).double().mean(0)
    assert (share[0], share[255]) == (0, 1)
    torch.testing.assert_close(share, levels.double() / 255, rtol=0, atol=5 * 0.5 / 4000**0.5)


def test_training_images_are_drawn_anew_in_each_epoch_and_order():
    first = images_of([0], 50)
    assert set(first.unique().tolist()) == {0, 255}
    assert torch.equal(first, images_of([0], 50))
    for other in (images_of([0], 50, epoch=2), images_of([1], 50)):
        assert not torch.equal(first.sum(-1).sort().values, other.sum(-1).sort().values)
    full = [images_of([0], None, epoch) for epoch in (1, 2)]
    assert not torch.equal(*full)
    dataset = load(**vars(make_config(**ON).data))
    mean = torch.stack([images_of([0], None, epoch).double() for epoch in range(1, 41)]).mean(0)[0] / 255
    torch.testing.assert_close(mean, dataset.grey.train.images.double() / 255, rtol=0, atol=6 * 0.5 / 40**0.5)


@pytest.mark.parametrize("augment", [None, {"shift": 2, "flip": 0.5}])
def test_the_images_of_an_order_do_not_depend_on_what_is_beside_it_or_on_how_they_are_gathered(augment):
    both = images_of([3, 4], 7, augment=augment)
    for run, order in enumerate((3, 4)):
        for size in (7, 100, 240):
            assert torch.equal(both[run], images_of([order], size, augment=augment)[0])


def test_validation_and_test_images_are_drawn_once_for_all():
    one, other = (load(**vars(make_config(**{**ON, "data.limit": limit}).data)) for limit in (300, 300))
    for part in ("train", "validation", "test"):
        shown = getattr(one, part).images
        assert set(shown.unique().tolist()) == {0, 255}
        assert torch.equal(shown, getattr(other, part).images)
    fewer = load(**vars(make_config(**{**ON, "data.limit": 100}).data))
    assert torch.equal(fewer.test.images, one.test.images[:100])
    grey = load(**vars(make_config(**{"data.limit": 300}).data))
    assert grey.grey is None
    assert torch.equal(one.grey.train.images, grey.train.images)
    assert torch.equal(one.test.labels, grey.test.labels)
    assert ((one.test.images == 255) <= (grey.test.images > 0)).all()


@pytest.mark.parametrize("knobs", [
    {"model.hidden": [20]}, {"model": "vae", "model.hidden": [20], "model.latent": 3},
    {"model": "linear", "augment.mixup": 0.4, "batch_size": None},
], ids=str)  # fmt: skip
def test_any_model_trains_on_them_stacked_and_resumed(knobs, tmp_path, monkeypatch):
    configs = [make_config(**{**SMALL, "figures": False, **ON, **knobs, "seed": seed}) for seed in (0, 1)]
    assert_stacked_and_resumed_alike(configs, tmp_path, monkeypatch, 3)


def test_a_run_without_them_is_the_run_that_it_was():
    assert config_hash(make_config(**{"data.binarise": False})) == config_hash(make_config())
    assert config_hash(make_config(**{"data.binarise": True})) != config_hash(make_config())
