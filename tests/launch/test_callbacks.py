"""What Hydra calls before and after runs: mistakes are one line, and a dry run leaves nothing."""

import pytest
from helpers import run_cli, tiny
from omegaconf import OmegaConf

from fmnist.launch.callbacks import ShowCommands

SMALL = ("model=mlp1", "model.hidden=[5]", "data.limit=100", "epochs=1")


@pytest.mark.parametrize(("directory", "why"), [
    ("/proc/nothing/run", "No such file or directory"), ("link", "File exists"), ("into", "No such file or directory"),
])  # fmt: skip
def test_a_run_directory_that_cannot_be_written_is_one_line(directory, why, tmp_path):
    (tmp_path / "link").symlink_to("/proc/nothing")
    (tmp_path / "into").symlink_to("/proc/self")
    done = run_cli(*SMALL, f"hydra.run.dir={directory}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: hydra.run.dir must be a folder to write to, got {directory}: {why}\n"


def test_a_dry_run_writes_nothing_and_knows_the_size_of_the_data(tmp_path):
    (tmp_path / "data").mkdir()
    tiny(tmp_path / "data", rows=60)
    own = ("model=mlp1", "model.hidden=[5]", "data=idx", "data.dir=data", "batch_size=8", "epochs=3")
    done = run_cli(*own, "dry_run=true", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("mlp: 59 parameters, 3 epochs, 18 steps in run; ")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("there", [True, False])
def test_the_end_of_a_sweep_shows_its_commands_if_it_has_a_leaderboard(there, tmp_path, capsys):
    if there:
        (tmp_path / "leaderboard.csv").touch()
    ShowCommands().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == (["curves", "report"] if there else [])
    assert all(line.endswith(str(tmp_path)) for line in lines)
