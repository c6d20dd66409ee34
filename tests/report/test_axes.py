"""Knobs as axes."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fmnist.report.axes import Scale
from fmnist.report.comparison import Configuration


@pytest.mark.parametrize(("values", "kind", "middle"), [
    ([1e-3, 1e-2, 1e-1], "log", 0.5), ([0.1, 0.2, 0.3], "linear", 0.5), ([32, 64, 128], "log", 0.5),
    ([10, 20, 40, 50], "linear", 0.25), ([None, 0.1, 0.5], "categories", 0.5), ([[8], [16], [8, 8]], "categories", 0.5),
])  # fmt: skip
def test_a_knob_has_the_axis_its_values_ask_for(values, kind, middle):
    scale = Scale.of("lr", [Configuration({"lr": value}, [], []) for value in values])
    assert (scale.kind, scale.positions[1]) == (kind, pytest.approx(middle))
    assert (scale.positions[0], scale.positions[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(("values", "kind"), [
    ([1.3e-4, 2e-2, 6.8e-2], "log"),  # three of a search over tag(log, interval(1e-4, 1e-1))
    ([2e-4, 1.5e-3, 2.5e-2, 3e-2, 3.3e-2, 4e-2, 4.1e-2, 5e-2], "log"),  # one that prefers large values
    ([0.01, 0.11, 0.22, 0.29, 0.41, 0.48, 0.62, 0.71, 0.83, 0.9], "linear"),  # one over interval(0, 1)
    ([1, 25, 50, 75, 100], "linear"), ([8, 512], "log"), ([1, 100, 10_000], "log"), ([0, 1, 1000], "linear"),
    ([-1, 1, 100], "linear"),
])  # fmt: skip
def test_values_that_crowd_together_on_a_linear_axis_have_a_logarithmic_one(values, kind):
    scale = Scale.of("lr", [Configuration({"lr": value}, [], []) for value in values])
    assert scale.kind == kind


def test_values_that_a_search_has_drawn_have_short_ticks():
    values = [1.2345e-4, 3.4567e-3, 0.0123456, 0.05, 128, 4321, 1234567]
    scale = Scale.of("lr", [Configuration({"lr": value}, [], []) for value in values])
    assert scale.ticks(100)[1] == ["0.00012", "0.0035", "0.012", "0.05", "128", "4321", "1.2e+06"]


def test_a_long_value_is_shown_by_its_ends():
    paths = ["/home/somebody/with/a/long/path/to/data", "/home/somebody/with/a/long/path/to/other data"]
    scale = Scale.of("data.dir", [Configuration({"data.dir": path}, [], []) for path in paths])
    assert scale.ticks()[1] == scale.texts == ["/home/some…ng/path/to/data", "/home/some…h/to/other data"]


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=60, unique=True))
@example([1000000.0, 999999.9999999999])  # their logarithms are equal
def test_ticks_have_room_and_the_ends_are_among_them(values):
    scale = Scale.of("lr", [Configuration({"lr": value}, [], []) for value in values])
    positions, _ = scale.ticks()
    assert positions[0] == 0.0
    assert positions[-1] == pytest.approx(1.0)
    assert len(positions) == 2 or min(b - a for a, b in pairwise(positions)) > 0.12
