"""What all tests share: configs from a few words, and the devices that are here."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from fmnist.config import parse
from fmnist.schema import GROUPS, Config

settings.register_profile("bench", deadline=None)  # a shared machine may pause at any moment
settings.load_profile("bench")

ROOT = Path(__file__).parents[1]
DEVICES = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]


def make_config(model: str = "mlp", data: str = "fashion", optim: str = "adam", **knobs: Any) -> Config:
    """A checked config; knobs as on the command line: make_config(lr=0.1, **{"model.hidden": [20]})."""
    given: dict[str, Any] = {"model": {"name": model}, "data": {"name": data}, "optim": {"name": optim}}
    for key, value in knobs.items():
        group, _, inner = key.rpartition(".")
        place = given[group] if group in GROUPS else given.setdefault(group, {}) if group else given
        place[inner if group else key] = value
    given.setdefault("order_seed", given.get("seed", 0))
    return parse(given)


def run_cli(*arguments: str, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """`python train.py ...` as a user types it."""
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that is here in turn."""
    return torch.device(request.param)
