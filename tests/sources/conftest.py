"""A small Fashion-MNIST, so that all that concerns its files can be tested in a moment."""

import gzip
import hashlib
from pathlib import Path

import pytest
from helpers import FILES, tiny

from fmnist.sources import fetch


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small .gz "Fashion-MNIST" as the only source; data/ is an empty folder beside it."""
    source = tmp_path / "source"
    source.mkdir()
    tiny(source, suffix=".gz")
    contents = {name: gzip.decompress((source / f"{name}.gz").read_bytes()) for name in FILES}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(fetch, "FASHION", sums)
    monkeypatch.setattr(fetch, "SOURCES", {"a folder": lambda scratch: source})
    monkeypatch.setattr(fetch, "DATA", tmp_path / "data")
    return source
