"""Metrics of finished runs, against counting by hand and against what the run itself recorded."""

import io
import json
import os
from statistics import mean, stdev

import pytest
import torch
from forking import module, zygote
from helpers import MODELS, SMALL, make_config, said
from report.made_up import change, change_config, write_run
from sklearn import metrics as reference
from training import data_kept, quick_disk, strict  # noqa: F401 - two are fixtures that serve each test

from fmnist import ROOT, UserError
from fmnist import evaluate as evaluation
from fmnist.data.dataset import as_input
from fmnist.evaluate import evaluate, summary, table
from fmnist.train import engine
from fmnist.train.stack import Stack
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


def test_all_that_is_told_of_the_test_images_is_of_the_same_input(tmp_path, monkeypatch):
    """Confusion, recall and precision come from the products by which accuracy and loss are measured."""
    (outcome,) = engine.fit([make_config(**MODELS["mlp"], **SMALL)], [tmp_path])
    monkeypatch.setattr(Stack, "input", lambda self, split: as_input(split.images.flip(0), self.dtype))
    found = evaluate(tmp_path)
    assert found["test/accuracy"] < outcome.metrics["test/accuracy"] / 2
    assert torch.tensor(found["confusion"]).trace() / 600 == pytest.approx(found["test/accuracy"])


def test_the_command_prints_json_or_one_line_of_error(tmp_path, monkeypatch, capsys):
    engine.fit([make_config(**MODELS["mlp"], **SMALL)], [tmp_path])
    done = zygote().run(module("fmnist.evaluate"), str(tmp_path), "--json", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test/accuracy"] == evaluate(tmp_path)["test/accuracy"]
    for mistake, line in {
        (tmp_path / "nothing",): "error: no run found in",
        (tmp_path, tmp_path, "--pictures", tmp_path): "error: --pictures is for one run",
        (tmp_path, "--weights", "average"): "error: no averaged weights in",
    }.items():
        status, out, err = said(monkeypatch, capsys, evaluation.main, *mistake)
        assert (status, out) == (2, "")
        assert err.startswith(line)
        assert len(err.splitlines()) == 1


def test_a_metric_that_is_not_defined_is_null_in_json_and_undefined_for_a_person(tmp_path, monkeypatch, capsys):
    knobs = {"model": "autoencoder", "model.hidden": [4], "anomaly.normal": 1, "figures": False}
    engine.fit([make_config(**SMALL, **knobs)], [tmp_path])
    assert evaluate(tmp_path)["probe/accuracy"] is None  # its training rows are of one class
    status, out, _ = said(monkeypatch, capsys, evaluation.main, tmp_path, "--json")
    assert status == 0
    assert strict(out)["probe/accuracy"] is None
    status, out, _ = said(monkeypatch, capsys, evaluation.main, tmp_path)
    assert status == 0
    assert "auroc 0." in out
    assert "probe accuracy undefined" in out


def test_a_reader_who_has_seen_enough_hears_nothing(tmp_path):
    engine.fit([make_config(**MODELS["mlp"], **SMALL)], [tmp_path])
    piped = "import os\nreader, writer = os.pipe()\nos.close(reader)\nos.dup2(writer, 1)\n"  # as `head` leaves it
    done = zygote().run(piped + module("fmnist.evaluate"), str(tmp_path), cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_missing_weights_are_named(tmp_path):
    engine.fit([make_config(**MODELS["mlp"], **SMALL)], [tmp_path])
    (tmp_path / "last.safetensors").unlink()
    with pytest.raises(UserError, match=r"last\.safetensors is missing"):
        evaluate(tmp_path)


def numbers(text, tag):
    """The numbers of the lines of a tag."""
    return [[float(word) for word in line.split()[1:]] for line in text.splitlines() if line.startswith(tag)]


def test_several_runs_are_summarised_by_mean_and_spread(tmp_path):
    configs = [make_config(**MODELS["mlp"], **SMALL, seed=seed) for seed in range(3)]
    outcomes = engine.fit(configs, [tmp_path / str(seed) for seed in range(3)])
    values = [outcome.metrics["test/accuracy"] for outcome in outcomes]
    expected = [3, mean(values), stdev(values), min(values), max(values)]
    for directories in (sorted(tmp_path.iterdir()), [tmp_path]):  # a sweep's directory stands for its runs
        assert numbers(summary(directories), "test/accuracy") == [pytest.approx(expected, abs=5e-5)]
        assert "all runs" in summary(directories)


def test_runs_of_different_configurations_and_models_are_summarised_apart(tmp_path, monkeypatch, capsys):
    common = {**SMALL, "figures": False, "epochs": 1, "precision": "float32"}
    asked = [{"lr": lr, "seed": seed, **MODELS["mlp"]} for lr in (1e-3, 3e-3) for seed in (0, 1)]
    asked.append({"model": "autoencoder", "model.hidden": [4]})
    for number, knobs in enumerate(asked):
        engine.fit([make_config(**common, **knobs)], [tmp_path / str(number)])
    engine.fit([make_config(**common, **MODELS["mlp"], lr=1e38)], [tmp_path / "bad"])
    status, out, _ = said(monkeypatch, capsys, evaluation.main, tmp_path)
    assert status == 0
    blocks = out.split("\n\n")
    assert sorted(block.splitlines()[0] for block in blocks[:3]) == [
        "autoencoder, loss mae, all runs", "classifiers, lr 0.001", "classifiers, lr 0.003",
    ]  # fmt: skip
    assert [len(numbers(block, "test/accuracy")[0]) for block in blocks[:3]] in ([5, 5, 4], [4, 5, 5])
    (line,) = blocks[3].splitlines()[1:]
    assert line.startswith(f"{tmp_path / 'bad'}: failed, train/loss is")


def test_runs_that_are_not_finished_are_named_and_do_not_count(tmp_path):
    (tmp_path / "0").mkdir()
    engine.fit([make_config(**MODELS["mlp"], **SMALL, until=0.4)], [tmp_path / "1"])
    with pytest.raises(UserError, match=r"no run is finished: .*1: paused$"):
        summary([tmp_path])
    engine.fit([make_config(**MODELS["mlp"], **SMALL, seed=1)], [tmp_path / "2"])
    engine.fit([make_config(**MODELS["mlp"], **SMALL, seed=1)], [tmp_path / "3"])
    text = summary([tmp_path])
    assert numbers(text, "test/accuracy")[0][0] == 1
    assert text.splitlines()[-2:] == [
        f"{tmp_path / '1'}: paused", f"{tmp_path / '3'}: duplicate, the same run as {tmp_path / '2'}",
    ]  # fmt: skip


def test_what_runs_say_does_not_reach_the_terminal_as_it_is(tmp_path, monkeypatch, capsys):
    """A terminal's codes, line breaks and bytes that are no UTF-8, in a path, a knob's value and an error."""
    hostile = os.fsdecode(b"\x1b[31mred\xff")
    write_run(tmp_path / "0", 0.5)
    change_config(write_run(tmp_path / "1", 0.4), schedule=hostile)
    write_run(tmp_path / hostile, 0.4, "failed", error=f"{hostile}\nnot counted:", seed=1)
    status, out, _ = said(monkeypatch, capsys, evaluation.main, tmp_path)
    assert status == 0
    assert "classifiers, schedule ?[31mred?\n" in out
    assert f"{tmp_path}/?[31mred?: failed, ?[31mred? not counted:\n" in out
    for arguments in ((tmp_path / hostile,) * 2, (tmp_path / f"no {hostile}",)):
        status, _, err = said(monkeypatch, capsys, evaluation.main, *arguments)
        assert (status, len(err.splitlines())) == (2, 1)
        assert "[31mred?" in err
        assert "\x1b" not in err


def test_a_metric_that_is_not_defined_is_counted_as_such_among_several_runs(tmp_path):
    for seed in range(3):
        directory = write_run(tmp_path / str(seed), 0.5, seed=seed)
        change(directory, metrics={"test/accuracy": 0.5, "test/loss": None if seed else 0.25, "test/auroc": None})
    lines = [line.split() for line in summary([tmp_path]).splitlines() if line.startswith("test/")]
    assert lines == [
        ["test/accuracy", "3", "0.5000", "0.0000", "0.5000", "0.5000"],
        ["test/loss", "1,", "2", "undefined", "0.2500", "0.2500", "0.2500"], ["test/auroc", "0,", "3", "undefined"],
    ]  # fmt: skip


def test_huge_values_are_short(tmp_path):
    for seed in range(2):
        write_run(tmp_path / str(seed), 0.5, seed=seed, test=1e30 * (1 + seed))
    (row,) = [line.split() for line in summary([tmp_path]).splitlines() if line.startswith("test/accuracy")]
    assert row[1:] == ["2", "1.5e+30", "7.071e+29", "1e+30", "2e+30"]


def test_a_run_that_may_not_be_entered_is_one_line(tmp_path, monkeypatch, capsys):
    stat, opened = os.stat, io.open

    def refused(path):
        return "closed" in os.path.dirname(str(path))

    def refusing(function):
        def call(path, *rest, **options):
            if refused(path):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *rest, **options)

        return call

    monkeypatch.setattr(os, "stat", refusing(stat))
    monkeypatch.setattr(io, "open", refusing(opened))
    found, _, err = said(monkeypatch, capsys, evaluation.main, tmp_path / "closed")
    assert (found, len(err.splitlines())) == (2, 1)
    assert err.startswith("error: ")
