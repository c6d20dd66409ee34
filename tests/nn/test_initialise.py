"""Initial weights: drawn as the name says, the same for every precision, scaled where blocks add up."""

import math

import pytest
import torch
from torch import nn

from fmnist.nn.layers import Activation, BatchNorm, Linear, Residual, initialise


@pytest.mark.parametrize(
    ("kind", "mean", "deviation"),
    [
        ("he", 0, math.sqrt(2 / 400)),
        ("glorot", 0, math.sqrt(2 / 700)),
        ("report", 0, 0.05),
        ("report_weights", 0, 0.05),
        ("report_biases", 0, math.sqrt(2 / 400)),
    ],
)
def test_initialisers_draw_what_they_say(kind, mean, deviation):
    model = nn.Sequential(Linear(400, 300, (2,)), Linear(300, 200, (2,)), Linear(200, 100, (2,)))
    initialise(model, 1, kind, 2.0, torch.Generator().manual_seed(0))
    first = model[0].weight[1]
    assert first.mean().item() == pytest.approx(mean, abs=0.002)
    assert first.std().item() == pytest.approx(2 * deviation, rel=0.02)
    assert not model[0].weight[0].any()  # the other run is left alone
    if kind in ("report", "report_weights"):
        for layer, (mean, deviation) in zip(model[1:], ((0.1, 0.08), (0.2, 0.03)), strict=True):
            assert layer.weight[1].mean().item() == pytest.approx(2 * mean, rel=0.02)
            assert layer.weight[1].std().item() == pytest.approx(2 * deviation, rel=0.05)
    for layer in model:
        if kind in ("report", "report_biases"):
            assert layer.bias[1].std().item() == pytest.approx(1.0, rel=0.3)
        else:
            assert not layer.bias[1].any()


def test_initial_weights_are_the_same_for_every_precision():
    drawn = []
    for dtype in (torch.float32, torch.float64):
        model = Linear(20, 10, (1,), dtype=dtype)
        initialise(model, 0, "he", 1.0, torch.Generator().manual_seed(3))
        drawn.append(model.weight.detach())
    assert torch.equal(drawn[0], drawn[1].float())


def test_unknown_initialiser_is_refused():
    with pytest.raises(ValueError, match="one of he, glorot, report,"):
        initialise(Linear(2, 2, (1,)), 0, "xavier", 1.0, torch.Generator())


def chain(depth, projected=False, nested=False):
    """A stem, so many residual blocks, and a head."""

    def block():
        inner = [Linear(6, 6, (2,)), BatchNorm(6, (2,)), Activation("relu")]
        return Residual(nn.Sequential(*inner), Linear(6, 6, (2,)) if projected else None)

    blocks = [block() for _ in range(depth)]
    blocks = [Residual(nn.Sequential(*blocks))] if nested else blocks
    return nn.Sequential(Linear(5, 6, (2,)), *blocks, Linear(6, 3, (2,)))


@pytest.mark.parametrize("kind", ["he", "report"])
@pytest.mark.parametrize(("depth", "projected", "nested"), [
    (1, False, False), (4, False, False), (9, True, False), (3, False, True), (0, False, False),
])  # fmt: skip
def test_weights_inside_residual_blocks_are_divided_by_the_root_of_their_number(kind, depth, projected, nested):
    plain, scaled = chain(depth, projected, nested), chain(depth, projected, nested)
    for model, skip_scale in ((plain, "none"), (scaled, "depth")):
        initialise(model, 1, kind, 2.0, torch.Generator().manual_seed(0), skip_scale)
    blocks = depth + nested
    for (name, ours), theirs in zip(scaled.named_parameters(), plain.parameters(), strict=True):
        inside = ".inner." in name and name.endswith("weight") and ours.dim() == 3
        torch.testing.assert_close(ours, theirs / math.sqrt(blocks) if inside else theirs, rtol=1e-6, atol=0)


def test_blocks_scaled_by_depth_do_not_explode():
    """At He's scale each block multiplies what it is given, so that 50 of them end at ten thousand times a million."""
    sizes, x = {}, torch.randn(1, 200, 64, generator=torch.Generator().manual_seed(1))
    for skip_scale in ("none", "depth"):
        blocks = [Residual(nn.Sequential(Linear(64, 64, (1,)), Activation("relu"))) for _ in range(50)]
        model = nn.Sequential(*blocks)
        initialise(model, 0, "he", 1.0, torch.Generator().manual_seed(0), skip_scale)
        with torch.no_grad():
            sizes[skip_scale] = float(model(x).norm() / x.norm())
    assert sizes["none"] > 1e10
    assert sizes["depth"] < 100
