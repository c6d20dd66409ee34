"""What a search keeps: the space that it searches, and the file of its trials, wherever it is killed."""

import os

import optuna.storages.journal._file as journal
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins._search import FILE, distribution
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sweep.searches import OPTUNA, SPACE, parabola, settings, trials_in

from fmnist import UserError
from fmnist.record.files import locked


@pytest.mark.parametrize(("text", "expected"), [
    ("x=interval(0,1)", FloatDistribution(0, 1)),
    ("x=tag(log,interval(1e-4,1))", FloatDistribution(1e-4, 1, log=True)),
    ("x=int(interval(1,5))", IntDistribution(1, 5)),
    ("x=tag(log,int(interval(8,512)))", IntDistribution(8, 512, log=True)),
    ("x=range(1,5)", IntDistribution(1, 4)),
    ("x=range(16,64,16)", IntDistribution(16, 48, step=16)),
    ("x=range(0.25,1.25,0.25)", FloatDistribution(0.25, 1.0, step=0.25)),
    ("x=adam,sgd", CategoricalDistribution(["adam", "sgd"])),
    ("x=1,[2,3],null", CategoricalDistribution(["1", "[2,3]", "null"])),
    ("x='a (b)','é, c'", CategoricalDistribution(["'a (b)'", "'é, c'"])),  # as one types them
])  # fmt: skip
def test_hydras_syntax_as_optunas_distributions(text, expected):
    assert distribution(OverridesParser.create().parse_override(text)) == expected


@pytest.mark.parametrize("text", ["x=tag(log,interval(0,1))", "x=tag(wide,interval(0,1))", "x=interval(1,0)",
                                  "x=range(0)", "x=tag(log,range(1,9,2))"])  # fmt: skip
def test_a_space_that_is_none_is_refused_by_name(text):
    with pytest.raises(UserError) as caught:
        distribution(OverridesParser.create().parse_override(text))
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


class Kill(BaseException):
    """Not an Exception: nothing may tidy up."""


def test_a_killed_search_goes_on_as_if_it_had_not_been_killed(sweep, tmp_path):
    asked = [*OPTUNA, *settings(n_trials=14, n_jobs=6, prune_at=[0.5]), SPACE]
    assert sweep(*asked, "hydra.sweep.dir=straight", objective=parabola) == 0
    runs = sum(len(batch) for batch in sweep.launcher.batches)
    for after in (0, 3, 8, 14, runs - 1):  # in each part of the first two batches, and in the last
        ended = []

        def dying(job, after=after, ended=ended):
            if len(ended) == after:
                raise Kill
            ended.append(job)
            return parabola(job)

        with pytest.raises(Kill):
            sweep(*asked, f"hydra.sweep.dir={after}", objective=dying)
        assert sweep(*asked, f"hydra.sweep.dir={after}", objective=parabola) == 0
        assert trials_in(tmp_path / str(after)) == trials_in(tmp_path / "straight")
    assert sweep(*asked, "hydra.sweep.dir=0", objective=parabola) == 0
    assert sweep.launcher.jobs == []


def test_what_a_crash_leaves_behind_does_no_harm(sweep, tmp_path, monkeypatch):
    """Half a line, and Optuna's own lock, for which nothing waits."""
    asked = [*OPTUNA, *settings(n_jobs=4), SPACE]
    assert sweep(*asked, "hydra.sweeper.n_trials=4", objective=parabola) == 0
    before = trials_in(tmp_path / "here")
    with open(tmp_path / "here" / FILE, "a", encoding="utf-8") as file:
        file.write('{"op_code":4,"worker_')
    os.symlink(FILE, tmp_path / "here" / f"{FILE}.lock")
    waits = []
    monkeypatch.setattr(journal.time, "sleep", waits.append)
    assert sweep(*asked, "hydra.sweeper.n_trials=8", objective=parabola) == 0
    assert waits == []
    assert trials_in(tmp_path / "here")[:4] == before
    assert len(trials_in(tmp_path / "here")) == 8


def test_another_search_is_not_mixed_in(sweep, capsys, tmp_path):
    asked = [*OPTUNA, *settings(n_trials=2, n_jobs=2)]
    assert sweep(*asked, SPACE, objective=parabola) == 0
    capsys.readouterr()
    assert sweep(*asked, SPACE, "device=cpu", objective=parabola) == 0
    assert sweep(*asked, SPACE, "epochs=2", objective=parabola) == 2
    assert "here holds another search (epochs=None there, 2 here)" in capsys.readouterr().err
    assert sweep(*asked, "lr=interval(0,1)", objective=parabola) == 2
    assert "lr=tag(log,interval(1e-4,1e1)) there, interval(0,1) here" in capsys.readouterr().err
    assert sweep(*asked, SPACE, "hydra.sweeper.direction=minimize", objective=parabola) == 2
    assert "maximize there, minimize here" in capsys.readouterr().err
    with locked(tmp_path / "here" / f"{FILE}.pid", wait=False):
        assert sweep(*asked, SPACE, objective=parabola) == 2
    assert "is being searched by another process" in capsys.readouterr().err
    assert len(trials_in(tmp_path / "here")) == 2
