"""A sweep of this project under Ray; run by `make test-ray`, which makes the environment for it."""

import tempfile
import threading
from pathlib import Path

from helpers import expected, sweep_under

__all__ = ["expected"]  # a fixture

# As README has them: the nodes of Ray on this machine listen to it alone, and there is no dashboard.
ALONE = ("+hydra.launcher.ray.init.include_dashboard=false", "+hydra.launcher.ray.init._node_ip_address=127.0.0.1")
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}  # as the kernel says it


def listening():
    """Addresses at which anybody here listens by TCP, with their ports."""
    rows = [row.split() for table in ("tcp", "tcp6")
            for row in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]]  # fmt: skip
    return {tuple(row[1].split(":")) for row in rows if row[3] == "0A"}


def test_a_sweep_is_what_hydras_own_launcher_makes_of_it_and_ray_listens_to_this_machine_alone(
    expected, tmp_path, monkeypatch
):
    before, seen, over = listening(), set(), threading.Event()

    def look():
        while not over.wait(0.1):
            seen.update(listening() - before)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with tempfile.TemporaryDirectory() as short:  # Ray's sockets are in it: their paths have 107 characters at most
            monkeypatch.setenv("RAY_TMPDIR", short)
            monkeypatch.setenv("HOME", short)  # its token is written there
            monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
            assert sweep_under(tmp_path / "sweep", "hydra/launcher=ray", *ALONE) == expected
    finally:
        over.set()
        looking.join()
    assert seen
    assert {address for address, _ in seen} <= LOOPBACK, seen
