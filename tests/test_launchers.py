"""Under Hydra's other launchers a sweep is, file by file, what Hydra's own makes of it. Each is an extra."""

import json

import pytest
from conftest import run_cli

# Three jobs, the last of which diverges.
JOBS = ("model=mlp1", "model.hidden=[20]", "data.limit=500", "epochs=3", "lr=1e-3,3e-3,1e30")


def of_run(directory):
    """What does not depend on when and by whom a run was made: its files, curve and result."""
    result = json.loads((directory / "result.json").read_text())
    kept = {key: result.get(key) for key in ("status", "error", "epoch", "metrics", "objective", "config_hash")}
    files = {path.name.split(".out.")[0] for path in directory.iterdir()}
    return {**kept, "files": files, "curve": (directory / "metrics.jsonl").read_text()}


def of_sweep(directory):
    """As of_run, of all runs of a sweep, in the order of their names."""
    return [of_run(run) for run in sorted(directory.iterdir()) if (run / ".hydra").exists()]


def sweep(directory, *launcher):
    """Run the jobs under a launcher; see that its failure is told; give back what it left. One thread computes each:
    sums are grouped by threads, so the last bits of a curve depend on their number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        placed = (f"hydra.sweep.dir={directory}", "hydra.sweep.subdir=${hydra.job.num}")
        done = run_cli("-m", *JOBS, *launcher, *placed, cwd=directory.parent)
    assert done.returncode == 1, done.stderr
    assert "train/loss is" in done.stderr
    runs = of_sweep(directory)
    assert [run["status"] for run in runs] == ["done", "done", "failed"]
    return runs


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What Hydra's own launcher makes of the jobs."""
    return sweep(tmp_path_factory.mktemp("own") / "sweep", "hydra/launcher=basic")


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_sweep_is_what_hydras_own_launcher_makes_of_it(launcher, expected, tmp_path):
    assert sweep(tmp_path / "sweep", f"hydra/launcher={launcher}") == expected
