"""Reports on runs: statistics by known answers, what counts and what does not, pages, figures, the command line."""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from math import isnan
from pathlib import Path

import pytest
from helpers import make_config, run_cli
from hypothesis import example, given
from hypothesis import strategies as st

from fmnist import ROOT, UserError
from fmnist.record.record import Record
from fmnist.report import landscapes, plots
from fmnist.report.axes import Scale
from fmnist.report.comparison import Configuration, comparisons, find, in_order, natural, read
from fmnist.report.intervals import curve, interval, paired
from fmnist.report.page import html, pictures, report
from fmnist.report.tables import Table, spread

SMALL = {"data.limit": 500, "model.hidden": [20]}


def write_run(directory, objective, status="done", model="mlp", test=None, epochs=3, error=None, **knobs):
    """A run's record with a curve that ends at `objective`, by the project's own Record."""
    measure = "accuracy" if model == "mlp" else "loss"
    record = Record(make_config(model, epochs=epochs, **(SMALL | knobs)), directory)
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "train/loss": 2.0 / epoch, f"train/{measure}": objective * epoch / epochs}
        record.epoch(row | {"validation/loss": 3.0 / epoch, f"validation/{measure}": objective * epoch / epochs})
    metrics = {tag: value for tag, value in record.result["metrics"].items() if tag != "epoch"}
    metrics |= {"test/loss": 1.0, f"test/{measure}": objective - 0.01 if test is None else test}
    record.finish(status, epoch=epochs, seconds=2.0, error=error, metrics=metrics if status == "done" else {},
                  **({"objective": objective} if status == "done" else {}))  # fmt: skip
    return directory


def sweep(root, values, **fixed):
    """Runs 0, 1, 2 ... of a grid: values maps knobs to accuracies, one per seed."""
    number = 0
    for knobs, accuracies in values:
        for seed, accuracy in enumerate(accuracies):
            write_run(root / str(number), accuracy, seed=seed, **knobs, **fixed)
            number += 1
    return root


def comparison_of(root):
    (comparison,) = comparisons(read([root]))
    return comparison


LR = [({"lr": 1e-3}, [0.80, 0.82, 0.87]), ({"lr": 1e-2}, [0.81, 0.84, 0.885]), ({"lr": 1e-1}, [0.1, 0.1, 0.1])]


@pytest.fixture(scope="module")
def lr(tmp_path_factory):
    return sweep(tmp_path_factory.mktemp("lr"), LR)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    values = [
        ({"lr": lr, "dropout": dropout}, [0.9 - lr - (dropout or 0) / 10])
        for lr in (1e-3, 1e-2, 1e-1)
        for dropout in (None, 0.2, 0.5)
    ]
    return sweep(tmp_path_factory.mktemp("grid"), values)


# --- Statistics


def test_interval_has_a_known_answer():
    known = interval([0.80, 0.82, 0.87])  # t(0.975, 2) = 4.302653
    assert (known.n, known.mean) == (3, pytest.approx(0.83))
    assert known.sd == pytest.approx(0.0360555, abs=1e-7)
    assert (known.low, known.high) == (pytest.approx(0.740433, abs=1e-6), pytest.approx(0.919567, abs=1e-6))


def test_one_value_has_no_interval_and_equal_values_have_an_empty_one():
    assert interval([0.5]).mean == 0.5
    assert isnan(interval([0.5]).sd)
    assert isnan(interval([]).mean)
    same = interval([0.5] * 4)
    assert (same.sd, same.low, same.high) == (0.0, 0.5, 0.5)


def test_paired_differences_are_those_of_students_sleep_data():
    """Student 1908, The probable error of a mean: the answer is that of R's t.test(paired = TRUE)."""
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    difference, p = paired(list(zip(one, two, strict=True)))
    assert difference.mean == pytest.approx(-1.58)
    assert (difference.low, difference.high) == (pytest.approx(-2.4598858), pytest.approx(-0.7001142))
    assert p == pytest.approx(0.002833, abs=1e-6)


@pytest.mark.parametrize(("values", "told"), [
    ([0.88, 0.89], "0.8850 ± 0.0071"), ([140, 110, 110], "120 ± 17"), ([30, 30, 30], "30 ± 0"), ([2.5], "2.500"),
    ([0.75, 0.88, 0.886], "0.839 ± 0.077"), ([1e30, 3e30], "2e+30 ± 1.4e+30"),
])  # fmt: skip
def test_a_mean_has_the_digits_that_its_deviation_bears_out(values, told):
    assert spread(interval(values)) == told


@pytest.mark.parametrize("pairs", [[], [(1.0, 2.0)], [(0.3, 0.1), (0.4, 0.2)], [(0.5, 0.5)] * 3])
def test_without_spread_there_is_no_p(pairs):
    assert isnan(paired(pairs)[1])


def test_a_curve_has_mean_and_range_and_ends_with_the_first_run():
    of = curve([{1: 0.1, 2: 0.2, 3: 0.3}, {1: 0.3, 2: 0.4}, {}])
    assert (of.epochs, of.n) == ([1, 2], 2)
    assert of.mean == pytest.approx([0.2, 0.3])
    assert (of.low, of.high) == ([0.1, 0.2], [0.3, 0.4])


# --- What counts


def test_runs_that_differ_in_seed_alone_are_one_configuration(lr):
    comparison = comparison_of(lr)
    assert comparison.varying == ["lr"]
    assert [c.label for c in comparison.configurations] == ["lr 0.01", "lr 0.001", "lr 0.1"]
    second = comparison.configurations[1].interval("objective")
    assert (second.n, second.mean) == (3, pytest.approx(0.83))
    assert comparison.configurations[1].interval("test/accuracy").mean == pytest.approx(0.82)
    assert comparison.shared["data.limit"] == 500
    assert "seed" not in comparison.shared


def test_validation_chooses_and_the_test_does_not(tmp_path):
    write_run(tmp_path / "a", 0.9, lr=1e-3, test=0.1)
    write_run(tmp_path / "b", 0.8, lr=1e-2, test=0.99)
    assert comparison_of(tmp_path).finished[0].knobs == {"lr": 1e-3}


def test_a_loss_is_better_when_it_is_lower_and_losses_of_two_kinds_are_not_compared(tmp_path):
    for number, (loss, rate, value) in enumerate([("mae", 1e-3, 90.0), ("mae", 1e-2, 70.0), ("mse", 1e-3, 9.0)]):
        write_run(tmp_path / str(number), value, model="autoencoder", loss=loss, lr=rate)
    write_run(tmp_path / "classifier", 0.8)
    found = {comparison.title: comparison for comparison in comparisons(read([tmp_path]))}
    assert set(found) == {"classifiers", "autoencoder, loss mae", "autoencoder, loss mse"}
    absolute = found["autoencoder, loss mae"]
    assert (absolute.judged, absolute.finished[0].knobs) == ("validation/loss", {"lr": 1e-2})


def test_what_did_not_finish_is_listed_and_never_averaged(tmp_path):
    write_run(tmp_path / "0", 0.8, seed=0)
    write_run(tmp_path / "1", 0.9, seed=1)
    write_run(tmp_path / "2", 0.1, seed=2, status="failed", error="train/loss is nan | <b>stop</b>")
    write_run(tmp_path / "3", 0.1, seed=3, status="interrupted")
    write_run(tmp_path / "4", 0.1, seed=4, status="running")
    write_run(tmp_path / "5", 0.9, seed=1)  # once more
    write_run(tmp_path / "6", 0.1, seed=6)
    (tmp_path / "6" / "result.json").write_text('{"status": "done", ')
    write_run(tmp_path / "7", 0.1, seed=7)
    (tmp_path / "7" / "result.json").write_bytes(b"\xff\x00")
    write_run(tmp_path / "8", 0.1, seed=8)
    (tmp_path / "8" / "result.json").write_text("[]")
    (tmp_path / "9" / ".hydra").mkdir(parents=True)
    write_run(tmp_path / "10", float("nan"), seed=10)
    said = report([tmp_path], tmp_path / "report")
    assert said[0] == "2 finished runs of 11"
    (configuration,) = comparison_of(tmp_path).configurations
    assert configuration.interval("objective").mean == pytest.approx(0.85)
    page = (tmp_path / "report" / "index.md").read_text()
    plain = page.replace("\\_", "_")
    for name, why in {
        "2": "failed | train/loss is nan \\| &lt;b&gt;stop&lt;/b&gt;", "3": "interrupted", "4": "running",
        "5": f"duplicate | the same run as {tmp_path}/1", "6": f"unreadable | {tmp_path}/6/result.json is damaged",
        "7": f"unreadable | {tmp_path}/7/result.json is damaged",
        "8": f"unreadable | {tmp_path}/8/result.json is damaged",
        "9": "unstarted | no result.json", "10": "failed | its objective is nan",
    }.items():  # fmt: skip
        assert f"| {tmp_path}/{name} | {why}" in plain


def test_a_choice_of_a_group_is_one_knob_and_none_and_lists_are_values(tmp_path):
    write_run(tmp_path / "0", 0.8, optim="adam", batch_size=None)
    write_run(tmp_path / "1", 0.7, optim="sgd", batch_size=32)
    comparison = comparison_of(tmp_path)
    assert comparison.varying == ["batch_size", "optim.name"]  # not the betas, not the momentum
    assert comparison.finished[0].label == "batch_size full, optim adam"
    assert in_order([None, 64, 8], "batch_size") == [8, 64, None]
    assert in_order([0.5, None, 0.1], "dropout") == [None, 0.1, 0.5]
    assert in_order([[64], [16, 8], [16]]) == [[16], [16, 8], [64]]


def test_runs_are_found_once_and_in_natural_order(lr):
    names = [path.name for path in find([lr, lr / "3", lr / ".." / lr.name])]
    assert names == [str(number) for number in range(9)]
    assert sorted(map(str, range(12)), key=natural) == list(map(str, range(12)))


def test_differences_are_of_shared_seeds_only(tmp_path):
    for seed, accuracy in {0: 0.5, 1: 0.6, 2: 0.7, 9: 0.99}.items():
        write_run(tmp_path / f"a{seed}", accuracy, seed=seed, lr=1e-3)
    for seed, accuracy in {0: 0.4, 1: 0.45, 2: 0.65, 8: 0.0}.items():
        write_run(tmp_path / f"b{seed}", accuracy, seed=seed, lr=1e-2)
    one, two = comparison_of(tmp_path).configurations
    difference, _ = two.minus(one, "objective")
    assert (difference.n, difference.mean) == (3, pytest.approx(-0.1))


# --- Figures


@pytest.mark.parametrize(("values", "kind", "middle"), [
    ([1e-3, 1e-2, 1e-1], "log", 0.5), ([0.1, 0.2, 0.3], "linear", 0.5), ([32, 64, 128], "log", 0.5),
    ([10, 20, 40, 50], "linear", 0.25), ([None, 0.1, 0.5], "categories", 0.5), ([[8], [16], [8, 8]], "categories", 0.5),
])  # fmt: skip
def test_a_knob_has_the_axis_its_values_ask_for(values, kind, middle):
    scale = Scale.of("lr", [Configuration({"lr": value}, [], []) for value in values])
    assert (scale.kind, scale.positions[1]) == (kind, pytest.approx(middle))
    assert (scale.positions[0], scale.positions[-1]) == (0.0, 1.0)


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=60, unique=True))
@example([1000000.0, 999999.9999999999])  # their logarithms are equal
def test_ticks_have_room_and_the_ends_are_among_them(values):
    scale = Scale.of("lr", [Configuration({"lr": value}, [], []) for value in values])
    positions, _ = scale.ticks()
    assert positions[0] == 0.0
    assert positions[-1] == pytest.approx(1.0)
    assert len(positions) == 2 or min(b - a for a, b in pairwise(positions)) > 0.12


def names_of(root):
    return [picture.name for picture in pictures(comparison_of(root))]


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
    (axes,) = plots.response(comparison_of(lr)).figure.axes
    validation = axes.containers[0].lines[0]
    assert validation.get_ydata() == pytest.approx([0.83, 0.845, 0.1])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    assert axes.get_xlabel() == "learning rate (lr), log scale"
    assert axes.get_ylabel() == "accuracy (share of images)"


def test_names_are_not_joined_by_lines(tmp_path):
    sweep(tmp_path, [({"optim": name}, [0.8, 0.9]) for name in ("adam", "sgd")])
    (axes,) = plots.response(comparison_of(tmp_path)).figure.axes
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


# --- Pages


@pytest.fixture(scope="module")
def page(lr, tmp_path_factory):
    output = tmp_path_factory.mktemp("page")
    report([lr], output)
    return output


def test_all_files_are_there_and_the_html_needs_none_of_them(page):
    names = {path.name for path in page.iterdir()}
    assert names == {"index.md", "index.html", "table.csv", "table.tex", "response.svg", "curves_loss.svg",
                     "curves_accuracy.svg"}  # fmt: skip
    text = (page / "index.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', text)
    assert len(sources) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert "http" not in re.sub(r'src="[^"]*"', "", text)
    assert text.count("<table>") == 2
    for link in re.findall(r"\]\(([^)]+)\)", (page / "index.md").read_text()):
        assert (page / link).exists()


def test_the_best_is_marked_and_every_configuration_has_its_row(page):
    text = (page / "index.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2].startswith("| **1** | **0.01** | **3** | **0.845 ± 0.038** |")
    assert rows[3].startswith("| 2 | 0.001 | 3 | 0.830 ± 0.036 | 0.7404 to 0.9196 |")
    assert "Comparisons made: 2" in text
    (row,) = [line.split(" | ") for line in rows if line.startswith("| lr 0.001 | 3 | -0.015 [")]
    p, bonferroni = float(row[3]), float(row[4])  # differences 0.01, 0.02, 0.015: t = 5.196, 2 degrees of freedom
    assert p == pytest.approx(0.0351, abs=5e-4)
    assert bonferroni == pytest.approx(2 * p, abs=2e-3)


def test_csv_has_the_numbers_and_the_runs_they_are_of(page):
    rows = {row["lr"]: row for row in csv.DictReader(io.StringIO((page / "table.csv").read_text()))}
    row = rows["0.001"]
    assert float(row["objective mean"]) == pytest.approx(0.83)
    assert float(row["test/accuracy low"]) == pytest.approx(0.730433, abs=1e-6)
    results = [json.loads(Path(run, "result.json").read_text()) for run in row["runs"].split()]
    assert sorted(result["objective"] for result in results) == [0.80, 0.82, 0.87]


def test_text_is_escaped_for_each_format():
    table = Table(["batch_size"], [["a & b_c | 50% ~ <x>"]], strong=(0,))
    assert r"\textbf{a \& b\_c | 50\% \textasciitilde{} $<$x$>$} \\" in table.latex()
    assert r"batch\_size \\" in table.latex()
    shown = html("# T\n\n" + table.markdown(), {})
    assert "<td><strong>a &amp; b_c | 50% ~ &lt;x&gt;</strong></td>" in shown


def test_a_report_is_the_same_twice_and_an_interrupted_one_changes_nothing(page, lr, monkeypatch):
    before = {path: path.read_bytes() for path in page.iterdir()}
    report([lr], page)
    assert {path: path.read_bytes() for path in page.iterdir()} == before

    def stopped(*_):
        raise KeyboardInterrupt

    write_run(lr / "more", 0.99, seed=5)
    monkeypatch.setattr(plots, "curves", stopped)
    with pytest.raises(KeyboardInterrupt):
        report([lr], page)
    assert {path: path.read_bytes() for path in page.iterdir()} == before


def test_a_baseline_is_named_by_its_knobs(grid, tmp_path):
    report([grid], tmp_path, ["lr=1e-1", "dropout=none"])
    assert "### Compared with" not in (tmp_path / "index.md").read_text()  # one seed: nothing to compare
    with pytest.raises(UserError, match=r"must name one configuration, dropout=null fits 3: lr 0\.001, dropout none"):
        report([grid], tmp_path, ["dropout=null"])
    with pytest.raises(UserError, match=r"must name a finished configuration, got lr=7; there are lr 0\.001"):
        report([grid], tmp_path, ["lr=7"])


# --- The command


def command(*arguments, cwd):
    code = "import sys; from fmnist.report.__main__ import main; main(); print('torch' in sys.modules)"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip


def test_the_newest_sweep_is_reported_without_torch(tmp_path):
    quick = ("data.limit=500", "epochs=2", "model=mlp1", "model.hidden=[20]")
    run_cli("-m", *quick, "seed=0,1", "lr=1e-3,1e-2,1e30", "hydra.sweep.dir=outputs/lr", cwd=tmp_path)
    done = command(cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:2] == ["the newest sweep: outputs/lr", "4 finished runs of 6"]
    assert lines[2].startswith("Best of 2: lr 0.01 (n = 2): validation accuracy 0.")
    assert lines[3:] == ["report: outputs/lr/report/index.html", "False"]
    text = (tmp_path / "outputs" / "lr" / "report" / "index.md").read_text()
    assert text.count("| failed | train/loss is nan in epoch 1") == 2
    best = (tmp_path / "outputs" / "lr").glob("*lr-0.01*/result.json")
    runs = [json.loads(path.read_text()) for path in best]
    assert len(runs) == 2
    assert spread(interval([run["metrics"]["test/accuracy"] for run in runs])) in text


@pytest.mark.parametrize(("arguments", "words"), [
    ((), "there is no sweep in outputs/"), (("nowhere",), "there is no directory nowhere"),
    (("empty",), "empty has none"), (("run", "--output", "run/result.json"), "--output must be a directory"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_status_2(arguments, words, tmp_path):
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "run", 0.5)
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
