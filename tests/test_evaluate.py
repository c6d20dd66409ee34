"""Metrics of finished runs, against counting by hand and against what the run itself recorded."""

import json
import subprocess
import sys
from statistics import mean, stdev

import pytest
import torch
from helpers import MODELS, SMALL, make_config
from sklearn import metrics as reference

from fmnist import ROOT, UserError
from fmnist.evaluate import evaluate, summary, table
from fmnist.train import engine
from fmnist.view import metrics


def test_confusion_recall_and_precision_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (50,), generator=generator)
    predicted = torch.randint(4, (3, 50), generator=generator)
    for run in predicted:
        counts, recall, precision = metrics.by_class(run, labels, 4)
        assert counts == reference.confusion_matrix(labels, run).tolist()
        expected = reference.precision_recall_fscore_support(labels, run)
        assert precision == pytest.approx(expected[0].tolist())
        assert recall == pytest.approx(expected[1].tolist())


def test_a_class_that_is_not_there_counts_as_zero():
    one = torch.zeros(5, dtype=torch.int64)
    assert metrics.by_class(one, one, 1) == ([[5]], [1.0], [1.0])
    assert metrics.by_class(one, one, 3) == ([[5, 0, 0], [0, 0, 0], [0, 0, 0]], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0])


@pytest.mark.parametrize("loss", ["cross_entropy", "report_rows"])
@pytest.mark.parametrize("select", ["last", "best"])
def test_a_finished_run_is_evaluated_from_its_directory_alone(loss, select, tmp_path):
    config = make_config(**MODELS["mlp"], **SMALL, loss=loss, select=select, batch_norm=True)
    (outcome,) = engine.fit([config], [tmp_path])
    found = evaluate(tmp_path)
    assert found["test/accuracy"] == outcome.metrics["test/accuracy"]
    assert found["test/loss"] == outcome.metrics["test/loss"]
    counts = torch.tensor(found["confusion"])
    assert counts.sum() == 600
    assert counts.trace() / 600 == pytest.approx(found["test/accuracy"])
    assert "Ankle boot" in table(found)


def test_the_command_prints_json_or_one_line_of_error(tmp_path):
    engine.fit([make_config(**MODELS["mlp"], **SMALL)], [tmp_path])

    def command(*arguments):
        return subprocess.run([sys.executable, "-m", "fmnist.evaluate", *arguments], cwd=ROOT, capture_output=True,
                              text=True)  # fmt: skip

    done = command(str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test/accuracy"] == evaluate(tmp_path)["test/accuracy"]
    missing = command(str(tmp_path / "nothing"))
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: no run found in")
    assert len(missing.stderr.splitlines()) == 1


def test_missing_weights_are_named(tmp_path):
    engine.fit([make_config(**MODELS["mlp"], **SMALL)], [tmp_path])
    (tmp_path / "last.pt").unlink()
    with pytest.raises(UserError, match=r"last\.pt is missing"):
        evaluate(tmp_path)


def test_several_runs_are_summarised_by_mean_and_spread(tmp_path):
    configs = [make_config(**MODELS["mlp"], **SMALL, seed=seed) for seed in range(3)]
    outcomes = engine.fit(configs, [tmp_path / str(seed) for seed in range(3)])
    values = [outcome.metrics["test/accuracy"] for outcome in outcomes]
    (line,) = [line for line in summary(sorted(tmp_path.iterdir())).splitlines() if "test/accuracy" in line]
    expected = [3, mean(values), stdev(values), min(values), max(values)]
    assert [float(word) for word in line.split()[1:]] == pytest.approx(expected, abs=5e-5)
    (tmp_path / "3").mkdir()
    with pytest.raises(UserError, match=r"not finished: .*3$"):
        summary(sorted(tmp_path.iterdir()))
