"""What a better result costs: the Pareto front, and what is said of configurations without a place."""

import pytest
from report.made_up import change, comparison_of, weigh, write_run

from fmnist.report.page import pictures
from fmnist.report.tradeoffs import SAME, Point, front, tradeoffs

ROWS = [(0.9, 40, 9000), (0.8, 10, 5000), (0.75, 20, 1000)]


def runs_of(root, rows):
    """Runs that differ in lr, with these accuracies, seconds and numbers of parameters (None: no weights)."""
    for number, (accuracy, seconds, parameters) in enumerate(rows, start=1):
        run = write_run(root / str(number), accuracy, lr=number / 1000)
        change(run, seconds=seconds)
        if parameters:
            weigh(run, parameters)
    return root


def test_the_front_has_those_that_no_cheaper_one_matches():
    points = [Point(1, 50, 0.9), Point(2, 20, 0.89), Point(3, 30, 0.88), Point(4, 10, 0.8), Point(5, 10, 0.7)]
    assert [point.rank for point in front(points)] == [4, 2, 1]
    assert [point.rank for point in front([Point(2, 100, 0.8), Point(1, 101, 0.9), Point(3, 60, 0.7)])] == [3, 1]
    assert front([]) == []


@pytest.mark.parametrize("model", ["mlp", "autoencoder"])
def test_it_is_drawn_against_time_and_parameters(model, tmp_path):
    better = -1 if model == "autoencoder" else 1
    for number, (gain, seconds, parameters) in enumerate(ROWS, start=1):
        run = write_run(tmp_path / str(number), 1 + better * gain, model=model, lr=number / 1000)
        change(run, seconds=seconds)
        weigh(run, parameters)
    picture = tradeoffs(comparison_of(tmp_path))
    time, size = picture.figure.axes
    for axes, costs, ranks in ((time, [10, 40], ["2", "1"]), (size, [1000, 5000, 9000], ["3", "2", "1"])):
        (line,) = axes.lines
        assert list(line.get_xdata())[:-1] == costs
        assert [text.get_text() for text in axes.texts] == ranks
    assert time.get_xlabel() == "training time of a run (s)"
    assert size.get_xlabel() == "parameters"
    assert "against training time and parameters" in picture.caption


def test_configurations_without_weights_are_counted_and_far_ones_too(tmp_path):
    rows = [(0.90, 400, 4000), (0.89, 30, 3000), (0.88, 20, None), (0.10, 10, 1000)]
    picture = tradeoffs(comparison_of(runs_of(tmp_path, rows)))
    assert "1 configuration without weights have no place" in picture.caption
    assert "1 configuration far from the best lie outside" in picture.caption
    time, size = picture.figure.axes
    assert time.get_xlabel() == "training time of a run (s), log scale"  # 400 is 40 times 10
    assert len(size.collections[0].get_offsets()) == 3


def test_where_nothing_costs_more_a_sentence_says_so(lr):
    assert tradeoffs(comparison_of(lr)) == SAME
    assert SAME in pictures(comparison_of(lr))
