"""What pytest itself must know: the devices that are here, and settings of hypothesis."""

import gzip
import hashlib
import os
from pathlib import Path

# Threads that wait for one another sleep instead of spinning: tests run beside other work, and start processes that do.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch
from hypothesis import settings

from fmnist.sources import fetch

pytest.register_assert_rewrite("helpers")
settings.register_profile("bench", deadline=None)  # a shared machine may pause at any moment
settings.load_profile("bench")

DEVICES = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that is here in turn."""
    return torch.device(request.param)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small .gz "Fashion-MNIST" as the only source; data/ is an empty folder beside it."""
    from helpers import FILES, tiny  # not before its assertions are rewritten

    source = tmp_path / "source"
    source.mkdir()
    tiny(source, suffix=".gz")
    contents = {name: gzip.decompress((source / f"{name}.gz").read_bytes()) for name in FILES}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(fetch, "FASHION", sums)
    monkeypatch.setattr(fetch, "SOURCES", {"a folder": lambda scratch: source})
    monkeypatch.setattr(fetch, "DATA", tmp_path / "data")
    return source
