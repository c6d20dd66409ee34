"""Sweeps that several tests look at and none changes."""

import pytest
from report.made_up import sweep


@pytest.fixture(scope="session")
def lr(tmp_path_factory):
    """Three learning rates with three seeds each."""
    values = [({"lr": 1e-3}, [0.80, 0.82, 0.87]), ({"lr": 1e-2}, [0.81, 0.84, 0.885]), ({"lr": 1e-1}, [0.1, 0.1, 0.1])]
    return sweep(tmp_path_factory.mktemp("lr"), values)


@pytest.fixture(scope="session")
def grid(tmp_path_factory):
    """Three learning rates times three dropout rates, one seed."""
    values = [
        ({"lr": lr, "dropout": dropout}, [0.9 - lr - (dropout or 0) / 10])
        for lr in (1e-3, 1e-2, 1e-1)
        for dropout in (None, 0.2, 0.5)
    ]
    return sweep(tmp_path_factory.mktemp("grid"), values)
