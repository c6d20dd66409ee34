"""What the best configuration gets wrong: from what its runs have left."""

import json

import numpy as np
import pytest
from report.made_up import comparison_of, leave_mistakes, names_of, write_run

from fmnist.report.mistakes import UNKNOWN, mistakes
from fmnist.report.page import pictures, report


@pytest.fixture
def runs(tmp_path):
    """The best configuration has three seeds, the middle one of which has left nothing."""
    for seed, accuracy in enumerate((0.8, 0.9, 0.85)):
        write_run(tmp_path / f"best{seed}", accuracy, seed=seed, lr=0.1)
    write_run(tmp_path / "worse", 0.5, lr=0.2)
    leave_mistakes(tmp_path / "best0", [[8, 2], [1, 9]])
    leave_mistakes(tmp_path / "best2", [[7, 3], [0, 10]], probability=0.99995)
    leave_mistakes(tmp_path / "worse", [[0, 10], [10, 0]])
    return tmp_path


def test_the_matrix_is_the_mean_over_its_runs_in_percent(runs):
    confusion, _ = mistakes(comparison_of(runs))
    axes = confusion.figure.axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "75.0", (1, 0): "25.0", (0, 1): "5.0", (1, 1): "95.0"}  # (column, row)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["shirt", "boot"]
    assert "(lr 0.1)" in confusion.caption
    assert "mean over 2 runs, 20 test images" in confusion.caption


def test_the_images_are_those_of_its_best_run_that_has_left_some(runs):
    _, worst = mistakes(comparison_of(runs))
    drawn = [axes for axes in worst.figure.axes if axes.images]
    (axes,) = drawn
    assert np.array_equal(axes.images[0].get_array(), [[0, 50, 100], [150, 200, 250]])
    assert axes.get_title() == "shirt\n→ boot"
    assert [text.get_text() for text in axes.texts] == ["> 99.9 %"]
    assert "(best2)" in worst.caption


def test_a_run_without_a_mistake_is_a_sentence(runs):
    for run in ("best0", "best2"):
        leave_mistakes(runs / run, [[10, 0], [0, 10]])
    _, worst = mistakes(comparison_of(runs))
    assert worst == "The best configuration (lr 0.1) gets no test image wrong."


@pytest.mark.long
def test_many_classes_have_no_numbers(runs):
    counts = (np.eye(25, dtype=int) * 5 + np.eye(25, k=1, dtype=int)).tolist()
    for run in ("best0", "best2"):
        leave_mistakes(runs / run, counts, [f"a long name of class {number}" for number in range(25)])
    confusion, worst = mistakes(comparison_of(runs))
    assert not confusion.figure.axes[0].texts
    assert confusion.svg()
    assert worst.svg()


def damaged(**change):
    return lambda run: leave_mistakes(run, **change)


@pytest.mark.parametrize("make", [
    lambda run: (run / "mistakes.json").write_text("{", encoding="utf-8"),
    lambda run: (run / "mistakes.json").write_text("[1]", encoding="utf-8"),
    lambda run: (run / "mistakes.json").write_text("{}", encoding="utf-8"),
    lambda run: (run / "mistakes.json").mkdir(),
    damaged(epoch=2), damaged(epoch=True), damaged(classes=["one"]), damaged(confusion=[[1, 2]]),
    damaged(confusion=[[1, -2], [1, 2]]), damaged(confusion=[[1, 1e300], [1, 2]]), damaged(probability=1.5),
    damaged(probability=float("nan")), damaged(size=[3, 3]), damaged(size=[1]), damaged(size="28"),
    damaged(size=[6, None]),
    damaged(worst=7), damaged(worst=[7]), damaged(worst=[{"image": 1}]), damaged(size=[1 << 60, 1 << 60]),
    damaged(worst=[{"image": 0, "label": 5, "predicted": 0, "probability": 0.5, "pixels": "AAAAAAAA"}]),
    damaged(worst=[{"image": 0, "label": 1, "predicted": 0, "probability": 10**400, "pixels": "AAAAAAAA"}]),
    damaged(worst=[{"image": 0, "label": 1, "predicted": 0, "probability": 0.5, "pixels": "!"}]),
    damaged(worst=[{"image": 0, "label": 1, "predicted": 0, "probability": 0.5, "pixels": 5}]),
    damaged(worst=[{"image": 0, "label": 1, "predicted": 0, "probability": 0.5, "pixels": "AAAAAAAA"}] * 65),
    damaged(classes=[], confusion=[]), lambda run: None,
])  # fmt: skip
def test_what_is_missing_or_damaged_is_a_sentence(make, tmp_path):
    make(write_run(tmp_path / "run", 0.5))
    assert mistakes(comparison_of(tmp_path)) == [UNKNOWN]


def test_the_page_has_both_pictures_and_an_autoencoder_none(runs, tmp_path):
    report([runs], runs / "report")
    text = (runs / "report" / "index.md").read_text(encoding="utf-8")
    assert "](confusion.svg)" in text
    assert "](mistakes.svg)" in text
    assert text.index("(mistakes.svg)") < text.index("| rank |")
    write_run(tmp_path / "other" / "0", 5.0, model="autoencoder")
    assert names_of(tmp_path / "other") == ["curves_loss"]
    assert UNKNOWN not in pictures(comparison_of(tmp_path / "other"))


def test_the_file_may_be_read_by_anybody(runs):
    assert json.loads((runs / "best0" / "mistakes.json").read_text(encoding="utf-8"))["classes"] == ["shirt", "boot"]
