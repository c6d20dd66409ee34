"""The device of a run."""

import pytest
import torch

from fmnist.train.restore import pick_device


@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize(("name", "picked", "current"), [
    ("cpu", "cpu", []), ("cuda", "cuda", []), ("cuda:2", "cuda:2", [torch.device("cuda:2")]), ("auto", None, []),
])  # fmt: skip
def test_a_device_that_is_named_becomes_the_current_one(name, picked, current, here, monkeypatch):
    """Kernels that ask for no device go to the current one, and so do graphs that are captured."""
    made_current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    monkeypatch.setattr(torch.cuda, "set_device", made_current.append)
    assert pick_device(name) == torch.device(picked or ("cuda" if here else "cpu"))
    assert made_current == current
