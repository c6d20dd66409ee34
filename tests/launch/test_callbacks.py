"""What Hydra calls before and after runs: mistakes are one line, and a dry run leaves nothing."""

import errno
import os
from contextlib import ExitStack

import pytest
from helpers import full_disk, refuses, run_cli, tiny
from hydra.types import RunMode
from omegaconf import OmegaConf
from report.made_up import write_run

from fmnist.launch.callbacks import UpdateLeaderboard, _make, ending
from fmnist.launch.locks import LOCK
from fmnist.launch.runs import one_line, writing_to
from fmnist.record.result import read_result
from fmnist.report.leaderboard import Leaderboard

SMALL = ("model=mlp1", "model.hidden=[5]", "data.limit=100", "epochs=1")


@pytest.mark.few(1)
@pytest.mark.parametrize(("directory", "why"), [
    ("/proc/nothing/run", "No such file or directory"), ("link", "File exists"), ("into", "No such file or directory"),
])  # fmt: skip
def test_a_run_directory_that_cannot_be_written_is_one_line(directory, why, tmp_path):
    (tmp_path / "link").symlink_to("/proc/nothing")
    (tmp_path / "into").symlink_to("/proc/self")
    done = run_cli(*SMALL, f"hydra.run.dir={directory}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: hydra.run.dir must be a folder to write to, got {directory}: {why}\n"


def test_a_run_directory_without_room_is_refused_before_hydra_writes_to_it(tmp_path):
    with full_disk(60_000):
        refuses(
            lambda: _make(tmp_path / "run", ExitStack()),
            f"hydra.run.dir must be a folder to write to, got {tmp_path}/run: File",
        )
    _make(tmp_path / "run", ExitStack())
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]


def test_a_finished_run_that_cannot_be_written_is_done_already(tmp_path, capsys):
    with full_disk(60_000), pytest.raises(SystemExit) as ended:
        _make(tmp_path, ExitStack(), done=True)
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path} is done already: nothing to train\ncurves: ")


@pytest.mark.long
@pytest.mark.parametrize("swept", [False, True])
def test_paths_mean_what_they_meant_where_the_command_was_typed_whatever_chdir_does(swept, tmp_path):
    (tmp_path / "data").mkdir()
    tiny(tmp_path / "data", rows=60)
    own = ("model=mlp1", "model.hidden=[5]", "data=idx", "data.dir=data", "epochs=1", "hydra.job.chdir=true")
    sweep = ("-m", "hydra/launcher=basic", "hydra.sweep.dir=runs", "hydra.sweep.subdir=seed-0")
    done = run_cli(*(sweep if swept else ("hydra.run.dir=runs/seed-0",)), *own, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f" -m fmnist.board runs{'' if swept else '/seed-0'}\n" in done.stdout
    result = read_result(tmp_path / "runs" / "seed-0")
    assert (result["status"], result["config"]["data"]["dir"]) == ("done", "data")
    assert (tmp_path / "runs" / "leaderboard.csv").exists() == swept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "runs"]


def test_a_sweep_with_chdir_has_its_leaderboard_while_it_runs(tmp_path, monkeypatch):
    write_run(tmp_path / "sweep" / "0", 0.5)
    monkeypatch.chdir(tmp_path / "sweep" / "0")  # as Hydra does, by hydra.job.chdir
    hydra = {"mode": RunMode.MULTIRUN, "sweep": {"dir": "sweep"}, "runtime": {"cwd": str(tmp_path)}}
    UpdateLeaderboard().on_job_end(OmegaConf.create({"hydra": hydra}))
    assert (tmp_path / "sweep" / "leaderboard.csv").exists()


def test_a_dry_run_writes_nothing_and_knows_the_size_of_the_data(tmp_path):
    (tmp_path / "data").mkdir()
    tiny(tmp_path / "data", rows=60)
    own = ("model=mlp1", "model.hidden=[5]", "data=idx", "data.dir=data", "batch_size=8", "epochs=3")
    done = run_cli(*own, "dry_run=true", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("mlp: 59 parameters, 3 epochs, 18 steps in run; ")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("there", [True, False])
def test_the_end_of_a_sweep_shows_its_runs_and_its_commands_if_it_has_runs(there, tmp_path):
    if there:
        write_run(tmp_path / "0", 0.5)
    lines = ending(Leaderboard(tmp_path))[0].splitlines()
    assert [line.partition(":")[0] for line in lines[-3:]] == (
        [str(tmp_path / "leaderboard.csv"), "curves", "report"] if there else []
    )
    assert all(line.endswith(str(tmp_path)) for line in lines[-2:])
    assert ("0.5000" in "".join(lines)) == there


@pytest.mark.parametrize(("code", "status"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EROFS, 2)])
def test_a_full_disk_is_no_mistake_of_the_command(code, status, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended, one_line(), writing_to("hydra.run.dir", tmp_path):
        raise OSError(code, os.strerror(code))
    assert ended.value.code == status
    knob = "" if status == 1 else "hydra.run.dir must be a folder to write to, got "
    assert capsys.readouterr().err == f"error: {knob}{tmp_path}: {os.strerror(code)}\n"
