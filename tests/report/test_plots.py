"""Curves: lines, bands, captions."""

import json

import pytest
from matplotlib.figure import Figure
from report.made_up import comparison_of, sweep, write_run

from fmnist.report import plots


def test_curves_have_bands_and_too_many_are_the_best_and_the_worst(tmp_path, lr):
    values = [({"lr": n / 100}, [0.1 * n, 0.1 * n - 0.05]) for n in range(1, 10)]
    comparison = comparison_of(sweep(tmp_path, values))
    picture = plots.curves(comparison, "accuracy")
    assert "The best 6 of 9 configurations by validation accuracy, and the worst." in picture.caption
    assert "n = 2" in picture.caption
    training, validation = picture.figure.axes
    assert [line.get_label() for line in validation.lines] == [f"lr 0.0{n}" for n in (9, 8, 7, 6, 5, 4, 1)]
    assert validation.lines[0].get_ydata()[-1] == pytest.approx(0.875)
    band = validation.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(0.85 / 3), pytest.approx(0.9))
    assert training.get_title() == "training"
    assert "The best" not in plots.curves(comparison_of(lr), "accuracy").caption
    assert plots.curves(comparison, "kl") is None


def test_a_caption_keeps_the_capitals_of_a_name(tmp_path):
    row = json.dumps({"epoch": 1, "train/kl": 2.0, "validation/kl": 3.0})
    (write_run(tmp_path, 100.0, model="vae") / "metrics.jsonl").write_text(f"{row}\n", encoding="utf-8")
    assert plots.curves(comparison_of(tmp_path), "kl").caption.startswith("KL divergence by epoch. ")


@pytest.mark.parametrize(("low", "high", "shown"), [
    (0.02, 0.5, ["0.1"]), (20, 20_000, ["100", "1000", "10000"]),
    (0.02, 5e7, [f"$10^{{{power}}}$" for power in range(-1, 8)]),
])  # fmt: skip
def test_the_labels_of_an_axis_are_of_one_kind(low, high, shown):
    axes = Figure(figsize=(4, 12)).subplots()
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_formatter(plots.PlainLog())
    labels = [label.get_text() for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert [label for label in labels if label] == shown
