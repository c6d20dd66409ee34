"""What pytest itself must know: the devices that are here, and settings of hypothesis."""

import gzip
import hashlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Threads that wait for one another sleep instead of spinning: tests run beside other work, and start processes that do.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Processes that run tests side by side share the cores out.
os.environ.setdefault(
    "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
)

# A shell has what it runs in the background ignore Ctrl-C, nohup SIGHUP, and commands let what is ignored be.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

import pytest
import torch
from hypothesis import settings

from fmnist.sources import fetch

pytest.register_assert_rewrite("helpers")
settings.register_profile("bench", deadline=None)  # a shared machine may pause at any moment
settings.load_profile("bench")


@pytest.hookimpl(tryfirst=True)  # before pytest looks which of them are long
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave n cases of a test that is marked few(n) in `make test`, spread over all; the others are longer checks."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("few") and not item.get_closest_marker("long"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for these in cases.values():
        few = these[0].get_closest_marker("few").args[0]  # type: ignore[union-attr]
        for i, item in enumerate(these):
            if i * few // len(these) == (i - 1) * few // len(these):
                item.add_marker(pytest.mark.long)


DEVICES = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that is here in turn."""
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def logging_kept() -> Iterator[None]:
    """Put Python's logging back after each test: Hydra sets it up anew, silences others and writes to closed files."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    for logger in [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]:
        logger.disabled = False


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
    monkeypatch.setattr(fetch, "_ahead", {})
    return source
