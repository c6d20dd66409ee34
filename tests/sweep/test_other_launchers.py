"""Under Hydra's other launchers a sweep is, file by file, what Hydra's own makes of it. Each is an extra."""

import pytest
from helpers import expected, sweep_under

__all__ = ["expected"]  # a fixture


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_sweep_is_what_hydras_own_launcher_makes_of_it(launcher, expected, tmp_path):
    assert sweep_under(tmp_path / "sweep", f"hydra/launcher={launcher}") == expected
