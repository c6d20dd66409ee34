"""A sweep of this project under Ray; run by `make test-ray`, which makes the environment for it."""

import tempfile

from helpers import expected, sweep_under

__all__ = ["expected"]  # a fixture


def test_a_sweep_is_what_hydras_own_launcher_makes_of_it(expected, tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory() as short:  # Ray's sockets are in there: their paths have 107 characters at most
        monkeypatch.setenv("RAY_TMPDIR", short)
        monkeypatch.setenv("HOME", short)  # its token is written there
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        assert sweep_under(tmp_path / "sweep", "hydra/launcher=ray") == expected
