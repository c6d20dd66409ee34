"""A checkout with spaces and accents in its path."""

import shutil
import tempfile
from pathlib import Path

import pytest

from fmnist import ROOT
from fmnist.bench import entrants, race, sweeps


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project whose programs the bench starts, and a folder for temporary files: at an awkward path."""
    folder = tmp_path / "Drivé (ma thèse)" / "it's"
    for name in ("fmnist", "conf", "sweep"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", folder)
    (folder / "data").symlink_to(ROOT / "data")
    (folder / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    for module in (entrants, race, sweeps):
        monkeypatch.setattr(module, "ROOT", folder)
    monkeypatch.setattr(entrants, "SCRIPTS", folder / "fmnist" / "bench" / "peers")
    monkeypatch.setattr(entrants, "DATA", folder / "data")
    return folder
