"""What is finished can be shown where nothing can be written; what is not says why it cannot go on."""

import errno
import os
from pathlib import Path

import pytest
from report.made_up import write_run
from sweep.searches import OPTUNA, SPACE, parabola, settings

REFUSED = "error: hydra.sweep.dir must be a folder to write to, got here: Read-only file system\n"


@pytest.fixture
def read_only(monkeypatch):
    """From now on the folder `here` cannot be written to: root may write where a mode forbids it."""

    def begin():
        monkeypatch.setattr(os, "open", refusing(os.open))
        monkeypatch.setattr("io.open", refusing(open))
        monkeypatch.setattr("builtins.open", refusing(open))

    def refusing(opens):
        def instead(path, how="r", *rest, **named):
            writes = how & (os.O_WRONLY | os.O_RDWR) if isinstance(how, int) else set(how) & set("wax+")
            if writes and not isinstance(path, int) and "here" in Path(os.fsdecode(path)).parts:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
            return opens(path, how, *rest, **named)

        return instead

    return begin


SWEEP = ("-m", "model=mlp1", "model.hidden=[20]", "data.limit=500", "epochs=3", "hydra.sweep.dir=here",
         "hydra.sweep.subdir=${hydra.job.num}")  # fmt: skip


@pytest.mark.few(1)
@pytest.mark.parametrize("launcher", ["stacked", "basic"])
def test_a_finished_sweep_is_shown_and_one_that_is_not_is_refused(launcher, sweep, read_only, tmp_path, capsys):
    for seed in range(2):
        write_run(tmp_path / "here" / str(seed), 0.5, seed=seed)
    read_only()
    assert sweep(*SWEEP, f"hydra/launcher={launcher}", "seed=0,1") == 0
    told = capsys.readouterr()
    assert not told.err
    assert f"{tmp_path}/here: 2 jobs, 2 done already" in told.out
    assert "0.5000" in told.out
    assert sweep(*SWEEP, f"hydra/launcher={launcher}", "seed=0,1,2") == 2
    assert capsys.readouterr().err == REFUSED
    assert not sweep.launcher.batches


@pytest.mark.long
def test_a_finished_search_is_shown_and_one_that_is_not_is_refused(sweep, read_only, tmp_path, capsys):
    assert sweep(*OPTUNA, *settings(n_trials=2), SPACE, objective=parabola) == 0
    shown = capsys.readouterr().out.splitlines()[-2:]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    read_only()
    assert sweep(*OPTUNA, *settings(n_trials=2), SPACE, objective=parabola) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == shown
    assert sweep(*OPTUNA, *settings(n_trials=3), SPACE, objective=parabola) == 2
    assert capsys.readouterr().err == REFUSED
    assert not sweep.launcher.batches
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
