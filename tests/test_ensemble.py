"""fmnist.ensemble: averages of finished runs, and what each member adds."""

import pytest
from helpers import SMALL, make_config, refuses, said
from training import data_kept, quick_disk, strict  # noqa: F401 - two are fixtures that serve each test

from fmnist.ensemble import BEST, chosen, ensemble, main
from fmnist.report.comparison import read
from fmnist.train import engine

KNOBS = SMALL | {"epochs": 2, "model.hidden": [8]}


def trained(folder, seeds=(0, 1, 2), **knobs):
    """The directories of runs that were trained together."""
    directories = [folder / str(seed) for seed in seeds]
    engine.fit([make_config(**KNOBS | knobs, seed=seed) for seed in seeds], directories)
    return directories


def test_runs_are_averaged_in_three_ways_on_validation_and_test_images(tmp_path):
    directories = trained(tmp_path)
    found = ensemble(directories)
    assert found["n"] == {"validation": 120, "test": 600}
    assert found["members"] == [str(directory) for directory in directories]
    alone = [run.metrics for run in read(directories)]
    for part in ("validation", "test"):
        accuracies = [metrics[f"{part}/accuracy"] for metrics in alone]
        assert found["scores"]["mean of the members"][part]["accuracy"] == pytest.approx(sum(accuracies) / 3)
        best = min(alone, key=lambda metrics: metrics["validation/loss"])
        assert found["scores"][BEST][part]["log_loss"] == pytest.approx(best[f"{part}/loss"], rel=1e-5)
        losses = {name: own[part]["log_loss"] for name, own in found["scores"].items()}
        assert losses["probabilities"] < losses["mean of the members"] < losses["weights"]
    assert "the runs began from 3 different initial weights" in found["remarks"][0]


def test_greedy_selection_takes_as_many_members_as_are_best_on_validation_rows(tmp_path):
    directories = trained(tmp_path) + trained(tmp_path / "poor", (3,), lr=1e-6)
    found = ensemble(directories)
    losses = [own["together"]["log_loss"] for own in found["contributions"]]
    count = losses.index(min(losses)) + 1
    assert count < 4
    assert found["contributions"][-1]["place"] == 3
    own = found["scores"][f"probabilities, {count} by greedy selection"]["validation"]
    assert own["log_loss"] == pytest.approx(min(losses))


def test_the_best_of_a_sweep_are_those_by_validation(tmp_path):
    trained(tmp_path)
    results = read([tmp_path])
    order = sorted(results, key=lambda run: run.metrics["objective"], reverse=True)
    assert chosen(results, 2) == [run.directory for run in order[:2]]
    refuses(lambda: chosen(results, 4), "an ensemble needs 4 finished runs, found 3")
    refuses(lambda: chosen(results, 1), "--best must be 2 or more")
    refuses(lambda: chosen(results[:1], None), "an ensemble needs 2 finished runs, found 1")


def test_runs_without_validation_rows_are_averaged_and_nothing_says_what_each_adds(tmp_path):
    directories = trained(tmp_path, (0, 1), **{"data.split": 1.0})
    found = ensemble(directories)
    assert (found["n"], found["contributions"]) == ({"test": 600}, [])
    assert "no validation rows" in found["remarks"][-1]
    refuses(lambda: chosen(read(directories), 2), "--best chooses by validation")


def test_runs_that_have_no_images_or_no_network_in_common_say_so(tmp_path):
    one, *_ = trained(tmp_path / "one", (0, 1))
    (other,) = trained(tmp_path / "other", (2,), **{"data.limit": 500})
    refuses(lambda: ensemble([one, other]), "must have the same validation images", str(other))
    (wide,) = trained(tmp_path / "wide", (3,), **{"model.hidden": [9]})
    found = ensemble([one, wide])
    assert found["remarks"] == ["no average of weights: the runs are of several networks"]
    assert "weights" not in found["scores"]
    refuses(lambda: ensemble([one, wide], target=tmp_path / "kept"), "--save")


def test_the_command_prints_tables_or_json_and_keeps_the_average(tmp_path, monkeypatch, capsys):
    trained(tmp_path / "sweep", batch_norm=True)
    status, out, err = said(monkeypatch, capsys, main, "--best", 2, tmp_path / "sweep", "--save", tmp_path / "kept")
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("2 runs in ")
    assert lines[0].endswith("n = 120 validation images, 600 test images")
    assert "statistics of batch normalisation were estimated anew" in out
    assert (tmp_path / "kept" / "last.safetensors").exists()
    status, out, _ = said(monkeypatch, capsys, main, tmp_path / "sweep", "--json")
    assert (status, len(strict(out)["members"])) == (0, 3)
    for mistake, line in {
        (tmp_path / "nothing",): "error: DIR must be a directory with runs in or below it",
        (tmp_path / "sweep", "--best", 9): "error: an ensemble needs 9 finished runs, found 3",
        (tmp_path / "sweep", "--save", tmp_path / "kept"): "error: --save must name a new directory",
    }.items():
        status, out, err = said(monkeypatch, capsys, main, *mistake)
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        assert err.startswith(line)


def test_autoencoders_are_refused(tmp_path):
    directories = trained(tmp_path, (0, 1), model="autoencoder", figures=False)
    refuses(lambda: chosen(read(directories), None), "an ensemble is of classifiers", "is an autoencoder")
