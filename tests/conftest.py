"""What pytest itself must know: the devices that are here, and settings of hypothesis."""

import os

# Threads that wait for one another sleep instead of spinning: tests run beside other work, and start processes that do.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

pytest.register_assert_rewrite("helpers")
settings.register_profile("bench", deadline=None)  # a shared machine may pause at any moment
settings.load_profile("bench")

DEVICES = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that is here in turn."""
    return torch.device(request.param)
