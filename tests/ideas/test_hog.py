"""Histograms of oriented gradients: the paper's formula, written out here pixel by pixel."""

import math

import pytest
import torch
from helpers import SMALL, assert_same_run, make_config, refuses

from fmnist.export import export
from fmnist.ideas.hog import Hog, features
from fmnist.train import engine

MODEL = {"model": "hog", "model.hidden": [12]}


def histograms(image, cell, orientations):
    """Of one image (side, side), block by block, by loops."""
    side = len(image)
    cells = side // cell
    votes = [[[0.0] * orientations for _ in range(cells)] for _ in range(cells)]
    for row in range(cells * cell):
        for column in range(cells * cell):
            right, left = image[row][min(column + 1, side - 1)], image[row][max(column - 1, 0)]
            below, above = image[min(row + 1, side - 1)][column], image[max(row - 1, 0)][column]
            across, down = (right - left) / 2, (below - above) / 2
            place = math.atan2(down, across) % math.pi / math.pi * orientations
            low = int(place)
            length = math.hypot(across, down) / cell**2
            votes[row // cell][column // cell][low % orientations] += (1 - place + low) * length
            votes[row // cell][column // cell][(low + 1) % orientations] += (place - low) * length
    found = []
    for row in range(cells - 1):
        for column in range(cells - 1):
            block = [votes[row + r][column + c][o] for o in range(orientations) for r in (0, 1) for c in (0, 1)]
            for cut in (0.2, math.inf):
                length = max(math.hypot(*block), 1e-3)
                block = [min(value / length, cut) for value in block]
            found += block
    return found


@pytest.mark.parametrize(("cells", "orientations"), [([4], 9), ([3, 5], 4)])
def test_the_features_are_those_of_the_paper_and_the_pixels(cells, orientations):
    images = torch.rand(3, 144, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images[1] = 0  # nothing has no direction
    found = Hog(144, cells, orientations)(images)
    assert found.shape == (3, features(cells, orientations, 12) + 144)
    for image, own in zip(images, found, strict=True):
        rows = image.view(12, 12).tolist()
        expected = [number for cell in cells for number in histograms(rows, cell, orientations)]
        torch.testing.assert_close(own, torch.cat([torch.tensor(expected, dtype=torch.float64), image]))
    assert not found[1].any()


def test_images_of_several_runs_are_described_one_by_one():
    images = torch.rand(2, 3, 64, generator=torch.Generator().manual_seed(0))
    layer = Hog(64, [4], 9)
    assert torch.equal(layer(images), torch.stack([layer(own) for own in images]))


def test_a_stack_is_its_solo_runs(tmp_path):
    configs = [make_config(**MODEL, **SMALL, seed=seed, dropout=0.2 * seed) for seed in range(2)]
    engine.fit(configs, [tmp_path / "stack" / str(run) for run in range(2)])
    for run, config in enumerate(configs):
        engine.fit([config], [tmp_path / "solo" / str(run)])
        assert_same_run(tmp_path / "stack" / str(run), tmp_path / "solo" / str(run), rel=1e-9, abs=1e-9)


@pytest.mark.long
def test_a_run_is_exported_but_not_as_a_script_of_torch_nn(tmp_path):
    engine.fit([make_config(**MODEL, **{**SMALL, "precision": "float32"})], [tmp_path / "run"])
    assert export(tmp_path / "run", "onnx", tmp_path / "model.onnx")  # which has compared what it answers
    refuses(
        lambda: export(tmp_path / "run", "torch", tmp_path / "script"), "torch.nn has no layer for Hog", "--to onnx"
    )


def test_images_that_have_no_such_cells_are_refused():
    refuses(lambda: Hog(64, [4, 5], 9), "model.cells must be at most half the side of an image, 8, got [4, 5]")
    refuses(lambda: Hog(70, [4], 9), "model=hog needs square images, got 70 pixels")
