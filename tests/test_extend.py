"""fmnist.extend: more epochs for runs that were given fewer, solo and in stacks."""

import json

import pytest
from helpers import assert_same_run, make_config, refuses, said

from fmnist.extend import extend, main, remarks
from fmnist.record.result import read_result, write_result
from fmnist.train import engine

KNOBS = {"model.hidden": [8], "data.limit": 200, "batch_size": 40, "dropout": 0.2}


def trained(folder, epochs, seeds=(0,), **knobs):
    """The directories of runs that were trained together for so many epochs."""
    configs = [make_config(seed=seed, epochs=epochs, **KNOBS | {"schedule": "constant"} | knobs) for seed in seeds]
    directories = [folder / str(seed) for seed in seeds]
    engine.fit(configs, directories)
    return directories


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_run_that_is_extended_is_the_run_that_was_given_so_many_epochs_at_once(tmp_path, seeds):
    extended = trained(tmp_path / "extended", 2, seeds)
    outcomes = extend(extended, 5)
    for one, other in zip(extended, trained(tmp_path / "at once", 5, seeds), strict=True):
        assert_same_run(one, other)
    assert [outcome.error for outcome in outcomes] == [None] * len(seeds)


def test_an_extension_that_was_killed_goes_on_with_the_same_command(tmp_path, monkeypatch):
    (directory,) = trained(tmp_path / "extended", 2)
    with monkeypatch.context() as patch:
        patch.setattr("fmnist.extend.write_result", lambda *_: exit(9))
        with pytest.raises(SystemExit):
            extend([directory], 4)
    extend([directory], 4)
    assert_same_run(directory, trained(tmp_path / "at once", 4)[0])


def test_what_will_differ_from_so_many_epochs_at_once_is_said(tmp_path):
    cosine, rare = (make_config(epochs=6, **KNOBS | knobs) for knobs in ({"schedule": "cosine"}, {"eval_every": 3}))
    (one,) = trained(tmp_path / "one", 2, schedule="cosine")
    assert "schedule=cosine depends on the last epoch" in " ".join(remarks(one, cosine))
    (two,) = trained(tmp_path / "two", 2, eval_every=3)
    assert "epoch 2 was measured as the last one" in " ".join(remarks(two, rare))
    moved = {"anneal": {"label_smoothing": [0.2, 0.1]}, "schedule": "constant"}
    (three,) = trained(tmp_path / "three", 2, **moved)
    (remark,) = remarks(three, make_config(epochs=6, **KNOBS | moved))
    assert "anneal depends on the last epoch" in remark


def test_what_cannot_be_extended_is_refused_and_nothing_is_changed(tmp_path):
    (directory,) = trained(tmp_path, 2)
    before = (directory / "result.json").read_bytes()
    refuses(lambda: extend([directory], 1), "epochs must be 2 or more")
    assert (directory / "result.json").read_bytes() == before
    write_result(directory, (read_result(directory) or {}) | {"status": "failed", "error": "loss is nan"})
    refuses(lambda: extend([directory], 4), "has failed", "loss is nan")


def test_the_command_line_says_what_it_wants(tmp_path, monkeypatch, capsys):
    (directory,) = trained(tmp_path, 1)
    status, _, error = said(monkeypatch, capsys, main, directory, "lr=1")
    assert (status, "epochs=N" in error) == (2, True)
    assert said(monkeypatch, capsys, main, tmp_path / "nowhere", "epochs=3")[0] == 2
    status, printed, error = said(monkeypatch, capsys, main, directory, "epochs=2")
    assert status == 0, error
    assert "accuracy" in printed
    status, printed, _ = said(monkeypatch, capsys, main, directory, "epochs=3", "--json")
    assert status == 0
    told = json.loads(printed)[str(directory)]
    assert told["error"] is None
    assert 0 <= told["metrics"]["test/accuracy"] <= 1
