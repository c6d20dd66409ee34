"""For all tests of training."""

from training import data_kept  # noqa: F401 - a fixture that serves each test
