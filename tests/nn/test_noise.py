"""Dropout, noise and corrupted input: what they promise, and that the numbers of a run are its own."""

import math

import pytest
import torch

from fmnist.config.schema import DeepConfig
from fmnist.nn.layers import Dropout, DropPath
from fmnist.nn.models import Parts, build
from fmnist.nn.noise import Corrupt, Noise


def started(*seeds, device="cpu"):
    noise = Noise(len(seeds), device)
    noise.start(seeds)
    return noise


def test_dropout_keeps_its_share_and_the_mean(device):
    y = Dropout([0.3], started(1, device=device))(torch.ones(1, 400, 500, device=device))
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / 200_000))
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / 0.7), rtol=1e-4, atol=0)
    correlation = torch.corrcoef(kept[0].float()[:, :50].T.cpu()) - torch.eye(50)
    assert correlation.abs().max() < 6 / math.sqrt(400)  # units are dropped independently


def test_dropout_is_the_identity_for_p_0_and_in_evaluation_and_draws_nothing():
    x = torch.rand(1, 4, 5)
    for layer in (Dropout([0.0], started(1)), Dropout([0.9], started(1)).eval()):
        before = layer.noise.generators[0].get_state()
        assert layer(x) is x
        assert torch.equal(layer.noise.generators[0].get_state(), before)


def test_dropout_passes_the_gradient_of_what_it_kept():
    x = torch.ones(1, 50, 40, requires_grad=True)
    y = Dropout([0.5], started(3))(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_dropout_masks_of_a_stack_are_those_of_its_solos(device):
    seeds, p = (4, 5, 4), (0.5, 0.0, 0.5)
    x = torch.ones(3, 33, 7, device=device)
    stack = Dropout(p, started(*seeds, device=device))(x)
    for run in range(3):
        solo = Dropout([p[run]], started(seeds[run], device=device))(x[run])
        assert torch.equal(stack[run], solo)
    assert torch.equal(stack[0], stack[2])
    assert torch.equal(stack[1], x[1])


def test_drop_path_drops_whole_examples_more_of_them_in_later_blocks(device):
    parts = Parts(skip=True, drop_path=[0.6], noise=started(1, device=device), factory={"device": device})
    model = build(DeepConfig(width=5, depth=4), parts, 7, 3)
    paths = [layer for layer in model.modules() if isinstance(layer, DropPath)]
    x, rows = torch.rand(4000, 5, device=device) + 1, 4000
    for path, dropped in zip(paths, (0.2, 0.4, 0.6), strict=True):
        y = path(x)
        kept = y[:, 0] != 0
        assert kept.float().mean().item() == pytest.approx(1 - dropped, abs=4 * math.sqrt(0.25 / rows))
        torch.testing.assert_close(y[kept], x[kept] / (1 - dropped), rtol=1e-4, atol=0)
        assert (y[~kept] == 0).all()
        assert path.eval()(x) is x


@pytest.mark.parametrize("shared", [True, False])
def test_drop_path_of_a_stack_is_that_of_its_solos(device, shared):
    seeds, p = (4, 5, 4), (0.5, 0.0, 0.5)
    x = torch.rand(*(() if shared else (3,)), 33, 7, device=device)
    stack = DropPath(p, started(*seeds, device=device))(x)
    for run in range(3):
        own = x if shared else x[run]
        assert torch.equal(stack[run], DropPath([p[run]], started(seeds[run], device=device))(own))


def test_dropout_refuses_bad_probabilities():
    for p in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"in \[0, 1\)"):
            Dropout([p], Noise(1))


def test_dropout_without_rescaling_leaves_what_it_keeps():
    layer = Dropout([0.4], started(1), rescale=False)
    x = torch.rand(500, 40) + 1
    y = layer(x)
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(0.6, abs=0.02)
    assert torch.equal(y[kept], x[kept])
    assert torch.equal(layer.eval()(x), x)


def test_noise_is_a_function_of_the_seed():
    first, again, other = (started(seed).normal(torch.empty(1, 50)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_corrupt_adds_noise_and_drops_pixels_and_nothing_else(device):
    x = torch.full((400, 50), 0.5, device=device)
    noisy = Corrupt([0.1], None, started(1, device=device))(x)
    assert noisy.std().item() == pytest.approx(0.1, rel=0.05)
    assert noisy.mean().item() == pytest.approx(0.5, abs=0.005)
    wild = Corrupt([5.0], None, started(1, device=device))(x)
    assert 0 <= wild.min() <= wild.max() <= 1
    masked = Corrupt(None, [0.25], started(1, device=device))(x)
    assert set(masked.unique().tolist()) == {0.0, 0.5}
    assert (masked == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(x, torch.full_like(x, 0.5))


def test_a_classifier_has_noise_on_its_input_in_training_alone(device):
    x = torch.full((400, 50), 0.5, device=device)
    layer = Corrupt([0.1], [0.25], started(1, device=device), training_only=True)
    assert layer(x).mean().item() == pytest.approx(0.5, abs=0.01)  # what is kept stands for what is not
    assert (layer(x) == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert layer.eval()(x) is x


def test_corruption_of_a_stack_is_that_of_its_solos(device):
    seeds, deviation, share = (4, 5, 4), (0.5, 0.1, 0.5), (0.5, 0.0, 0.5)
    x = torch.rand(33, 7, device=device)
    stack = Corrupt(deviation, share, started(*seeds, device=device))(x)
    for run in range(3):
        solo = Corrupt([deviation[run]], [share[run]], started(seeds[run], device=device))(x)
        assert torch.equal(stack[run], solo[0])
    assert not torch.equal(stack[0], stack[1])
