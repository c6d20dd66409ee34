"""Under Hydra's other launchers a sweep is, file by file, what Hydra's own makes of it. Each is an extra."""

import json

import pytest
from conftest import run_cli

# Three jobs, the last of which diverges.
JOBS = (
    *("model=mlp1", "model.hidden=[20]", "data.limit=500", "epochs=3", "precision=float64"),
    *("lr=1e-3,3e-3,1e300", "hydra.sweep.subdir=${hydra.job.num}"),
)


def of_run(directory):
    """What does not depend on when and by whom a run was made: facts, and figures."""
    result = json.loads((directory / "result.json").read_text())
    facts = {key: result[key] for key in ("status", "error", "epoch", "config_hash")}
    facts["files"] = {path.name.split(".out.")[0] for path in directory.iterdir()}
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    objective = {"objective": result["objective"]} if result["status"] == "done" else {}
    return facts, [*rows, result["metrics"] | objective]


def assert_same(one, other, **close):
    """Two runs, as of_run has them, with exactly equal figures or to the tolerance given."""
    assert one[0] == other[0]
    for a, b in zip(one[1], other[1], strict=True):
        assert a == (pytest.approx(b, **close) if close else b)


def sweep(directory, *launcher):
    """Run the jobs under a launcher; see that its failure is told; give back what it left. One thread computes each:
    sums are grouped by threads, so the last bits of a curve depend on their number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        done = run_cli("-m", *JOBS, *launcher, f"hydra.sweep.dir={directory}", cwd=directory.parent)
    assert done.returncode == 1, done.stderr
    assert "train/loss is" in done.stderr
    runs = [of_run(directory / str(number)) for number in range(3)]
    assert [facts["status"] for facts, _ in runs] == ["done", "done", "failed"]
    return runs


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What Hydra's own launcher makes of the jobs."""
    return sweep(tmp_path_factory.mktemp("own") / "sweep", "hydra/launcher=basic")


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_sweep_is_what_hydras_own_launcher_makes_of_it(launcher, expected, tmp_path):
    assert sweep(tmp_path / "sweep", f"hydra/launcher={launcher}") == expected
