"""The pictures of a report: what they show."""

import itertools
from dataclasses import replace

import pytest
from report.made_up import comparison_of, names_of, sweep, write_run

from fmnist.report import landscapes
from fmnist.report.page import pictures


def test_one_knob_gives_a_response_two_a_heat_map_more_parallel_coordinates(lr, grid, tmp_path):
    assert names_of(lr) == ["response", "curves_loss", "curves_accuracy"]
    assert names_of(grid) == ["heat_map", "curves_loss", "curves_accuracy"]
    many = [({"lr": rate, "dropout": drop, "batch_norm": norm}, [0.5 + rate]) for rate in (0.1, 0.2)
            for drop in (None, 0.5) for norm in (None, True)]  # fmt: skip
    assert names_of(sweep(tmp_path / "three", many))[:2] == ["parallel", "marginals"]
    scattered = [({"lr": 0.1 * n, "dropout": 0.1 * n}, [0.1 * n]) for n in range(1, 7)]
    assert names_of(sweep(tmp_path / "scattered", scattered))[:2] == ["parallel", "marginals"]
    assert names_of(write_run(tmp_path / "one", 0.5)) == ["curves_loss", "curves_accuracy"]


def test_the_response_is_the_means_on_a_log_axis(lr):
    (axes,) = landscapes.response(comparison_of(lr)).figure.axes
    validation = axes.containers[0].lines[0]
    assert validation.get_ydata() == pytest.approx([0.83, 0.845, 0.1])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    assert axes.get_xlabel() == "learning rate (lr), log scale"
    assert axes.get_ylabel() == "accuracy (share of images)"


def test_names_are_not_joined_by_lines(tmp_path):
    sweep(tmp_path, [({"optim": name}, [0.8, 0.9]) for name in ("adam", "sgd")])
    (axes,) = landscapes.response(comparison_of(tmp_path)).figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["adam", "sgd"]
    assert axes.containers[0].lines[0].get_linestyle() == "None"


def test_the_cells_of_a_heat_map_are_the_means(grid):
    axes = landscapes.heat_map(comparison_of(grid)).figure.axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    across = [label.get_text() for label in axes.get_xticklabels()]
    down = [label.get_text() for label in axes.get_yticklabels()]
    assert (across, down) == (["none", "0.2", "0.5"], ["0.001", "0.01", "0.1"]) or (down, across) == (
        ["none", "0.2", "0.5"], ["0.001", "0.01", "0.1"])  # fmt: skip
    assert len(cells) == 9
    for (x, y), text in cells.items():
        words = {across[int(x)], down[int(y)]}
        (rate,) = words & {"0.001", "0.01", "0.1"}
        (drop,) = words - {rate}
        assert float(text) == pytest.approx(0.9 - float(rate) - (0 if drop == "none" else float(drop) / 10), abs=6e-4)


@pytest.mark.parametrize("better", [max, min])
def test_darker_is_better(grid, better):
    comparison = replace(comparison_of(grid), better=better)
    comparison = replace(comparison, configurations=comparison.configurations[:: 1 if better is max else -1])
    colours = landscapes.Colours(comparison)
    light = [sum(colours.of(c.interval("objective").mean)[:3]) for c in comparison.finished]
    assert light == sorted(light)


@pytest.mark.few(1)
@pytest.mark.parametrize("others", [{}, {"dropout": [None, 0.5]}, {"dropout": [None, 0.5], "skip": [None, True]}])
def test_a_value_with_dollars_is_no_formula(others, tmp_path):
    """In every picture: with one, two and three knobs that vary."""
    names = list(itertools.product(["$a_", "$\\frac$", "plain"], *others.values()))
    for number, (folder, *rest) in enumerate(names):
        (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
        knobs = dict(zip(others, rest, strict=True)) | {"data.dir": str(tmp_path / "data" / folder)}
        write_run(tmp_path / "runs" / str(number), 0.5 + number / 100, data="idx", **knobs)
    for picture in pictures(comparison_of(tmp_path / "runs")):
        assert isinstance(picture, str) or "<svg" in picture.svg()


def test_a_cell_of_a_heat_map_is_a_number_without_a_point_at_its_end(tmp_path):
    means = [240.0, 57.25, 1.5, 12345.0]
    for number, mean in enumerate(means):
        write_run(tmp_path / str(number), mean, model="autoencoder", lr=0.1 + number % 2, batch_size=8 + number // 2)
    axes = landscapes.heat_map(comparison_of(tmp_path)).figure.axes[0]
    assert {text.get_text() for text in axes.texts} == {"240", "57.2", "1.50", "1.23e+04"}
