"""The peers' own code: all forms of a step, and all ways to train many runs, are the same training."""

import pytest

from fmnist.bench.__main__ import parse
from fmnist.bench.entrants import CEILINGS, PEERS, PLAIN, Entrant, Peer, command_line

SMALL = parse(["--rows", "600", "--threads", "1"])


def losses(peer: Peer, batch: int | None, epochs: int = 2) -> list[float | None]:
    """Of each epoch."""
    if not peer.python.exists():
        pytest.skip(f"the environment {peer.environment} is not there")
    with Entrant(peer, command_line([200], batch, SMALL)) as entrant:
        entrant.ready()
        assert (entrant.product() or 0) > 0
        entrant.epochs(epochs)
        assert entrant.memory()["avx512"] in (True, False, None)
        return entrant.losses


@pytest.mark.long
@pytest.mark.parametrize("batch", [None, 256])  # the last of 256 is shorter
def test_all_forms_of_plain_train_alike(batch):
    reference = losses(PEERS["plain"], batch)
    for name in PLAIN[1:]:
        assert losses(PEERS[name], batch) == pytest.approx(reference, rel=1e-3), name


@pytest.mark.long
@pytest.mark.parametrize("batch", [None, 400, 32])
def test_the_driver_of_libxsmm_trains_as_plain_sgd_does(batch):
    assert losses(CEILINGS["libxsmm"], batch) == pytest.approx(losses(CEILINGS["sgd"], batch), rel=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("name", ["jax", "jax-0.4.31"])
def test_the_first_of_many_runs_of_jax_is_the_solo_run(name):
    many = PEERS[name].given("--runs", "10", runs=10)
    assert losses(many, None) == pytest.approx(losses(PEERS[name], None), rel=1e-4)
    assert losses(many, 256) == pytest.approx(losses(PEERS[name], 256), rel=1e-2)  # the order is the same
    own = losses(many.given("--orders", "own"), 256)
    assert own != losses(many, 256)
    assert own == pytest.approx(losses(PEERS[name], 256), rel=0.12)
